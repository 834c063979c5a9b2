"""Progress without a terminal."""

import pytest

from projects.mmdet3d_plugin.common import progress
from projects.mmdet3d_plugin.common.logs import start_logging


def test_lines_come_now_and_then_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(progress.time, 'monotonic', lambda: float(next(clock)))
    start_logging()
    counter = progress.Progress(10, 'testing', enabled=True)
    for _ in range(10):
        counter.step('loss 1.0')
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) < 10
    assert 'testing' in lines[0]
    assert 'ETA 0:0' in lines[0]
    assert 'loss 1.0' in lines[0]


def test_the_time_left_counts_only_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0])
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    counter = progress.Progress(100, 'resumed', done=90, enabled=False)
    counter.start = 0.0
    counter.done = 95
    assert counter.eta() in ('0:00:00', '0:00:10')


def test_tracking_yields_everything_and_can_be_quiet(capsys: pytest.CaptureFixture) -> None:
    assert list(progress.track(iter('abc'), 3, 'letters', enabled=False)) == ['a', 'b', 'c']
    assert capsys.readouterr().err == ''

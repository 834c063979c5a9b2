"""How many threads a run takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import threads
from projects.mmdet3d_plugin.engine.threads import allowed_cores, choose_threads, keep_threads


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Eight cores without a quota, idle, and torch willing to use them all."""
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(threads, 'QUOTA', tmp_path)
    monkeypatch.setattr(threads.os, 'sched_getaffinity', lambda _: set(range(8)))
    monkeypatch.setattr(threads.os, 'getloadavg', lambda: (0.2, 9.0, 9.0))
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 8)
    monkeypatch.setattr(torch, 'set_num_threads', lambda _: None)
    return tmp_path


def test_busy_cores_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_threads() == 8
    monkeypatch.setattr(threads.os, 'getloadavg', lambda: (5.1, 0.0, 0.0))
    assert choose_threads() == 3
    monkeypatch.setattr(threads.os, 'getloadavg', lambda: (50.0, 0.0, 0.0))
    assert choose_threads() == 1
    assert choose_threads(deterministic=True) == 8


def test_affinity_and_quota_bound_the_number(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / 'cpu.max').write_text('max 100000\n')
    assert allowed_cores() == 8
    (machine / 'cpu.max').write_text('250000 100000\n')
    assert allowed_cores() == 2
    (machine / 'cpu.max').unlink()
    (machine / 'cpu').mkdir()
    (machine / 'cpu/cpu.cfs_quota_us').write_text('50000')
    (machine / 'cpu/cpu.cfs_period_us').write_text('100000')
    assert allowed_cores() == 1
    (machine / 'cpu/cpu.cfs_quota_us').write_text('-1')
    monkeypatch.setattr(threads.os, 'sched_getaffinity', lambda _: {1, 3})
    assert choose_threads() == 2


def test_a_choice_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, 'getloadavg', lambda: (50.0, 0.0, 0.0))
    assert choose_threads(6) == 6
    with pytest.raises(UserError, match='--threads is 0'):
        choose_threads(0)
    monkeypatch.setenv('OMP_NUM_THREADS', '8')
    assert choose_threads() == 8


def test_a_resumed_run_takes_as_many_as_before_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1]
    monkeypatch.setattr(torch, 'get_num_threads', lambda: now[0])
    monkeypatch.setattr(torch, 'set_num_threads', lambda number: now.__setitem__(0, number))
    caplog.set_level('INFO', logger='focaldistiller')
    assert keep_threads(4) == now[0] == 4
    assert '4 threads, as the checkpoint was trained with' in caplog.text
    assert keep_threads(4) == keep_threads(None) == keep_threads('many') == 4
    assert keep_threads(2, asked=4) == 4
    assert 'trained with 2 threads, this run has 4; --threads 2 gives it as many' in caplog.text
    assert keep_threads(16) == 4
    assert 'trained with 16 threads, this run has 4 (of 8 cores)' in caplog.text
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    assert keep_threads(2) == 4

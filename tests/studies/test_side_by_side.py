"""Stages run side by side, are measured, survive failures of others, and go on after an interruption."""

import io
import itertools
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder
from projects.mmdet3d_plugin.studies import side_by_side
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner, TimeUpError
from projects.mmdet3d_plugin.studies.stages import Stage, StageFailedError

SCRIPT = """
import sys, time
from pathlib import Path
folder, name, meet = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
(folder / 'order').open('a').write(name + ' ')
output = folder / f'{name}_dir' / 'result'
output.parent.mkdir(exist_ok=True)
(output.parent / 'checkpoint').open('a').write('x')
(folder / f'{name}.here').touch()
print('hello from', name, flush=True)
if (folder / f'{name}.fail').exists():
    raise SystemExit('it broke')
end = time.monotonic() + 20
while not all((folder / f'{other}.here').exists() for other in meet):
    if time.monotonic() > end:
        raise SystemExit('nobody came')
    time.sleep(0.01)
output.touch()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(SideBySideRunner, 'poll_seconds', 0.01)
    (tmp_path / 'work.py').write_text(SCRIPT)
    return tmp_path


def stage(place: Path, name: str, meet: tuple[str, ...] = (), **options: object) -> Stage:
    """A stage that ends when those that it should meet have begun."""
    output = place / f'{name}_dir' / 'result'
    command = ('work.py', str(place), name, *meet)
    return Stage(name, f'Do {name}', command, (output,), folder=output.parent, **options)


def runner(place: Path, *stages: Stage, **options: object) -> SideBySideRunner:
    console = Console(file=io.StringIO(), width=300)
    return SideBySideRunner(place / 'out', stages, place, console, **options)


def order(place: Path) -> list[str]:
    return (place / 'order').read_text().split()


def test_as_many_as_asked_for_run_at_a_time(place: Path) -> None:
    # each waits for the other: one after the other would never end
    runner(place, stage(place, 'a', ('b',)), stage(place, 'b', ('a',)), jobs=2).run()
    assert sorted(order(place)) == ['a', 'b']


def test_one_job_keeps_the_order(place: Path) -> None:
    runner(place, *(stage(place, name) for name in 'abc'), jobs=1).run()
    assert order(place) == ['a', 'b', 'c']


def test_a_stage_waits_for_what_it_builds_on(place: Path) -> None:
    stages = stage(place, 'a'), stage(place, 'late', after=('a',)), stage(place, 'b', ('a',))
    runner(place, *stages, jobs=3).run()
    assert order(place).index('late') > order(place).index('a')
    assert set(order(place)) == {'a', 'b', 'late'}


def test_failure_stops_only_what_builds_on_it(place: Path) -> None:
    (place / 'a.fail').touch()
    stages = stage(place, 'a'), stage(place, 'on_a', after=('a',)), stage(place, 'b')
    bad = runner(place, *stages, jobs=2)
    with pytest.raises(
        StageFailedError,
        match=r'1 of 3 steps failed; 1 steps build on that: Do a \(exit status 1; whole log: .*a\.log\)',
    ):
        bad.run()
    assert bad.finished_stages() == {'b'}
    assert '  it broke' in bad.console.file.getvalue()
    (place / 'a.fail').unlink()
    good = runner(place, *stages, jobs=2)
    good.run()
    assert order(place).count('b') == 1
    assert good.finished_stages() == {'a', 'on_a', 'b'}


def test_stamp_says_what_the_command_took(place: Path) -> None:
    (place / 'a.fail').touch()
    one = stage(place, 'a')
    with pytest.raises(StageFailedError):
        runner(place, one).run()
    (place / 'a.fail').unlink()
    again = runner(place, one)
    again.run()
    stamp = again.read_stamp('a')
    assert stamp['attempts'] == 2
    assert stamp['cpu_seconds'] > 0
    assert stamp['peak_bytes'] > 1e6
    assert stamp['command'] == one.shown


def test_time_that_is_up_ends_commands_and_the_next_run_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stage(place, 'a', ('somebody',)), stage(place, 'b', after=('a',))

    def clock() -> float:
        """An hour is over once the first command has begun, however long that takes."""
        return time.monotonic() + 3600.0 * (place / 'a.here').exists()

    monkeypatch.setattr(side_by_side, 'time', SimpleNamespace(monotonic=clock, sleep=time.sleep))
    hurried = runner(place, *stages, max_minutes=30.0)
    with pytest.raises(TimeUpError, match='time is up: 2 of 2 steps are left; run again to continue'):
        hurried.run()
    (place / 'somebody.here').touch()
    patient = runner(place, *stages)
    patient.run()
    # the folder with the checkpoint of the first attempt was kept
    assert (place / 'a_dir' / 'checkpoint').read_text() == 'xx'
    assert patient.read_stamp('a')['attempts'] == 2


def test_interruption_ends_commands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = runner(place, stage(place, 'a', ('nobody',)))
    attempts = []

    def interrupt(self: SideBySideRunner) -> None:
        attempts.extend(self._running)
        raise KeyboardInterrupt

    monkeypatch.setattr(SideBySideRunner, '_say_now_and_then', interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    assert attempts[0].process.returncode != 0
    assert one.finished_stages() == set()


def test_what_is_finished_is_not_repeated_and_changes_are(place: Path) -> None:
    a, b = stage(place, 'a', inputs=('one',)), stage(place, 'b')
    runner(place, a, b).run()
    second = runner(place, replace(a, inputs=('two',)), b)
    second.run()
    assert order(place) == ['a', 'b', 'a']
    assert '1 of 2 steps were finished before' in second.console.file.getvalue()


def test_two_processes_do_not_share_a_folder(place: Path) -> None:
    with locked_folder(place / 'out'), pytest.raises(UserError, match='is at work in'):
        runner(place, stage(place, 'a')).run()


def test_estimate_fills_all_jobs_but_no_chain_is_shorter_than_its_parts(place: Path) -> None:
    stages = [Stage(name, name, (), (Path('absent'),), minutes=2) for name in 'abcd']
    even = runner(place, *stages, jobs=2)
    even._begin()
    assert even.seconds_left() == 2 * 2 * 60
    chain = [replace(later, after=(before.name,)) for before, later in itertools.pairwise(stages)]
    chained = runner(place, stages[0], *chain, jobs=2)
    chained._begin()
    assert chained.seconds_left() == 4 * 2 * 60


def test_a_line_now_and_then_where_there_is_no_terminal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SideBySideRunner, 'seconds_between_lines', 0.0)
    one = runner(place, stage(place, 'a'))
    one.run()
    assert '0 of 1 steps' in one.console.file.getvalue()
    assert 'now a' in one.console.file.getvalue()


def test_on_a_terminal_the_last_line_of_each_log_is_shown(place: Path) -> None:
    one = runner(place, stage(place, 'a', ('somebody',)))
    one._begin()
    one._start_ready()
    end = time.monotonic() + 20
    while 'hello' not in (place / 'out' / 'logs' / 'a.log').read_text() and time.monotonic() < end:
        time.sleep(0.01)
    console = Console(file=io.StringIO(), width=100)
    console.print(one._view())
    one._stop_all()
    assert 'Do a' in console.file.getvalue()
    assert 'hello from a' in console.file.getvalue()

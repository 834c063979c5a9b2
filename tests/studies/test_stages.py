"""Stages run once, go on after a crash, and start afresh when they change."""

import io
import os
import pty
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from rich.console import Console

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder
from projects.mmdet3d_plugin.studies.stages import Stage, StageFailedError, StageRunner, run_logged

SCRIPT = """
import sys
from pathlib import Path
count, output, fail = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
count.write_text(count.read_text() + 'x' if count.exists() else 'x')
output.parent.mkdir(exist_ok=True)
(output.parent / 'checkpoint').touch()
print('hello from', output.name)
if fail.exists():
    raise SystemExit('it broke')
output.touch()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / 'work.py').write_text(SCRIPT)
    return tmp_path


def stage(place: Path, name: str, **options: object) -> Stage:
    output = place / f'{name}_dir' / 'result'
    command = ('work.py', str(place / f'{name}.count'), str(output), str(place / f'{name}.fail'))
    return Stage(name, f'Do {name}', command, (output,), folder=output.parent, **options)


def runs(place: Path, name: str) -> int:
    path = place / f'{name}.count'
    return len(path.read_text()) if path.exists() else 0


def run(place: Path, *stages: Stage) -> str:
    """Run stages; returns what was said."""
    console = Console(file=io.StringIO(), width=300)
    try:
        StageRunner(place / 'demo', stages, place, console).run()
    finally:
        text = console.file.getvalue()
    return text


def test_finished_stages_are_not_repeated(place: Path) -> None:
    stages = stage(place, 'one'), stage(place, 'two', after=('one',))
    first = run(place, *stages)
    second = run(place, *stages)
    assert (runs(place, 'one'), runs(place, 'two')) == (1, 1)
    assert '[1/2] Do one' in first
    assert '$ python work.py' in first
    assert 'left' in first
    assert second.count('finished before') == 2


def test_failure_shows_the_end_of_the_log_and_running_again_continues(place: Path) -> None:
    stages = stage(place, 'one'), stage(place, 'two', after=('one',)), stage(place, 'three', after=('two',))
    (place / 'two.fail').touch()
    with pytest.raises(StageFailedError, match=r'Do two: exit status 1; whole log: .*two\.log'):
        run(place, *stages)
    assert 'it broke' in (place / 'demo' / 'logs' / 'two.log').read_text()
    assert runs(place, 'three') == 0
    (place / 'two.fail').unlink()
    run(place, *stages)
    assert (runs(place, 'one'), runs(place, 'two'), runs(place, 'three')) == (1, 2, 1)


def test_last_lines_are_printed(place: Path, capsys: pytest.CaptureFixture) -> None:
    (place / 'one.fail').touch()
    with pytest.raises(StageFailedError):
        StageRunner(place / 'demo', [stage(place, 'one')], place, Console(width=200)).run()
    said = capsys.readouterr().out
    assert '  hello from result' in said.split('The last lines of its log:')[1]


def test_unfinished_stage_keeps_its_checkpoints_only_if_it_is_still_the_same(place: Path) -> None:
    one = stage(place, 'one', inputs=('lr = 1',))
    (place / 'one.fail').touch()
    mark = place / 'one_dir' / 'mark'
    with pytest.raises(StageFailedError):
        run(place, one)
    mark.touch()
    with pytest.raises(StageFailedError):
        run(place, one)
    assert mark.exists()
    with pytest.raises(StageFailedError):
        run(place, replace(one, inputs=('lr = 2',)))
    assert not mark.exists()


def test_a_folder_of_somebody_else_is_left_alone(place: Path) -> None:
    mine = place / 'one_dir' / 'thesis.txt'
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(UserError, match='one_dir holds files that this command did not make: move them away'):
        run(place, stage(place, 'one'))
    assert mine.exists()
    assert runs(place, 'one') == 0
    mine.unlink()
    run(place, stage(place, 'one'))
    said = run(place, stage(place, 'one', inputs=('other settings',)))
    assert 'one_dir, which was made with other settings' in said


@pytest.mark.parametrize('text', ['', '{"key": "a', '[]', 'null'])
def test_a_damaged_stamp_only_means_running_again(place: Path, text: str) -> None:
    one = stage(place, 'one')
    run(place, one)
    (place / 'demo/stamps/one.json').write_text(text)
    (place / 'demo/stamps/one.started.json').write_text(text)
    run(place, one)
    assert runs(place, 'one') == 2


def test_two_demos_do_not_share_a_folder(place: Path) -> None:
    with locked_folder(place / 'demo'), pytest.raises(UserError, match='is at work in'):
        run(place, stage(place, 'one'))


def test_a_command_ends_with_a_runner_that_is_killed(place: Path) -> None:
    """Otherwise running again at once would train twice in one folder."""
    (place / 'wait.py').write_text(
        'import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)'
    )
    note = place / 'pid'
    waiting = Stage('wait', 'Wait', ('wait.py', str(note)), (note,))
    process = get_context('fork').Process(target=run, args=(place, waiting))
    process.start()
    while not (note.exists() and note.read_text()):
        time.sleep(0.02)
    process.kill()
    process.join()
    for _ in range(500):
        if not is_running(int(note.read_text())):
            break
        time.sleep(0.02)
    assert not is_running(int(note.read_text()))


def is_running(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    status = Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rpartition(')')[2].split()[0] != 'Z'


def test_changed_input_runs_the_stage_and_what_builds_on_it(place: Path) -> None:
    two = stage(place, 'two')
    run(place, stage(place, 'one', inputs=('a',)), two, stage(place, 'three', after=('one',)))
    run(place, stage(place, 'one', inputs=('b',)), two, stage(place, 'three', after=('one',)))
    assert (runs(place, 'one'), runs(place, 'two'), runs(place, 'three')) == (2, 1, 2)


def test_stage_whose_output_is_gone_runs_again(place: Path) -> None:
    one = stage(place, 'one')
    run(place, one)
    one.outputs[0].unlink()
    run(place, one)
    assert runs(place, 'one') == 2


def test_command_that_writes_nothing_has_failed(place: Path) -> None:
    one = replace(stage(place, 'one'), outputs=(place / 'nowhere',))
    with pytest.raises(StageFailedError, match=r'did not write .*nowhere'):
        run(place, one)


def test_stamp_tells_command_and_time(place: Path) -> None:
    one = stage(place, 'one')
    run(place, one)
    stamp = StageRunner(place / 'demo', [one], place).read_stamp('one')
    assert stamp['command'] == one.shown
    assert stamp['seconds'] >= 0
    assert stamp['cpu_seconds'] > 0


def test_log_leaves_out_the_frames_of_progress_bars(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code = "import sys; sys.stdout.write('10%\\r20%\\r100%\\ndone\\n')"
    status = run_logged((sys.executable, '-c', code), tmp_path / 'log', tmp_path, {})
    assert status == 0
    assert (tmp_path / 'log').read_text().splitlines()[1:] == ['100%', 'done']
    assert '10%\r20%\r100%' in capsys.readouterr().out


def test_interruption_ends_the_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(file: object, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('projects.mmdet3d_plugin.studies.stages._write_final_lines', interrupt)
    late = place / 'late'
    code = (
        f"import time, pathlib; print('on', flush=True); time.sleep(20); pathlib.Path({str(late)!r}).touch()"
    )
    with pytest.raises(KeyboardInterrupt):
        run_logged((sys.executable, '-c', code), place / 'log', place, {})
    assert not late.exists()


def run_on_a_terminal(terminal: int, log: Path) -> None:
    """In a process of its own, whose standard output is a terminal."""
    os.dup2(terminal, 1)
    sys.stdout = open(1, 'w', closefd=False)  # noqa: SIM115
    code = 'import sys; print(sys.stdout.isatty(), sys.stderr.isatty())'
    run_logged((sys.executable, '-c', code), log, Path.cwd(), dict(os.environ))


def test_on_a_terminal_the_command_has_a_terminal_too(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = get_context('fork').Process(target=run_on_a_terminal, args=(theirs, tmp_path / 'log'))
    process.start()
    process.join()
    os.close(theirs)
    os.close(ours)
    assert (tmp_path / 'log').read_text().splitlines()[1] == 'True True'

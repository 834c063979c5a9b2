"""Run commands one after the other, so that an interrupted run can be started again and goes on where it was."""

import datetime
import fcntl
import hashlib
import json
import os
import pty
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder, read_json, write_json
from projects.mmdet3d_plugin.engine.launch import end_with_parent

TAIL_LINES = 20
STAGE_MARK = '.made_by_stage.json'
"""What the folder of a stage holds: only such a folder is ever removed."""


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: short and unique; names its stamp and its log.
        title: what it does, for people.
        command: arguments after ``python``; the first is a script of the repository.
        outputs: what must be there afterwards; a stage whose outputs are gone is run again.
        after: names of the stages whose results it uses; when one of them is run anew, so is this.
        inputs: texts of the files it depends on, for instance of its config with all its bases.
        folder: its own folder, where an interrupted run finds its checkpoints. Wiped when the stage changes.
        minutes: about how long it takes; only their ratios matter, for the estimate of the time left.
    """

    name: str
    title: str
    command: tuple[str, ...]
    outputs: tuple[Path, ...]
    after: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    folder: Path | None = None
    minutes: float = 0.1

    @property
    def shown(self) -> str:
        """The command as one would type it."""
        return shlex.join(('python', *self.command))


class StageFailedError(UserError):
    """A stage's command did not succeed."""


@dataclass
class StageRunner:
    """Runs stages in order, each once.

    A stage leaves a stamp with the hash of its command, its inputs and the stamps of the stages it builds on. The
    stamp counts as long as that hash stays the same and the outputs are there.

    Attributes:
        folder: where stamps and logs go.
        stages: in the order in which they run.
        root: working directory of the commands.
        console: where to talk.
    """

    folder: Path
    stages: Sequence[Stage]
    root: Path
    console: Console = field(default_factory=Console)

    def run(self) -> None:
        """Run what is not finished.

        Raises:
            StageFailedError: a command failed; its last lines have been shown.
            UserError: another process is at work in ``folder``, or a stage's folder holds files of somebody else.
        """
        with locked_folder(self.folder):
            self._run_stages()

    def _run_stages(self) -> None:
        """Run what is not finished, one after the other."""
        start, spent = time.monotonic(), 0.0
        keys = self.keys()
        for number, stage in enumerate(self.stages, 1):
            key = keys[stage.name]
            if self.is_finished(stage, key):
                self.console.print(self._headline(number, stage), '[green]finished before[/]')
                continue
            self.console.rule(style='dim')
            elapsed = time.monotonic() - start
            # from the pace of this run so far, or from the expected minutes before there is one
            pace = elapsed / spent if spent else 60.0
            ahead = sum(stage.minutes for stage in self.stages[number - 1 :])
            left = f', about {clock(ahead * pace)} left'
            self.console.print(self._headline(number, stage), f'[dim]total {clock(elapsed)}{left}[/]')
            self.console.print(f'$ {stage.shown}', style='cyan', highlight=False, soft_wrap=True)
            seconds = self._run_stage(stage, key)
            spent += stage.minutes
            self.console.print(f'[green]done[/] in {clock(seconds)}')

    def finished_stages(self) -> set[str]:
        """Names of the stages that are finished as they are now."""
        keys = self.keys()
        return {stage.name for stage in self.stages if self.is_finished(stage, keys[stage.name])}

    def keys(self) -> dict[str, str]:
        """Hash of every stage by name; a stage comes after those it builds on."""
        keys: dict[str, str] = {}
        for stage in self.stages:
            content = [stage.command, stage.inputs, [keys[name] for name in stage.after]]
            keys[stage.name] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return keys

    def is_finished(self, stage: Stage, key: str) -> bool:
        """Whether a stage's stamp holds this key and its outputs are there."""
        stamp = self.read_stamp(stage.name)
        return stamp.get('key') == key and all(path.exists() for path in stage.outputs)

    def read_stamp(self, name: str) -> dict:
        """What a finished stage left: ``key``, ``command``, ``seconds``, ``cpu_seconds``; empty for an unfinished one."""
        return _read_notes(self._stamp(name))

    def _run_stage(self, stage: Stage, key: str) -> float:
        """Run one command and stamp it; returns its seconds, those of interrupted attempts included."""
        before = self._open_attempt(stage, key)
        start, used = time.monotonic(), _cpu_of_commands()
        try:
            self._execute(stage)
        finally:
            cpu = before.get('cpu_seconds', 0.0) + _cpu_of_commands() - used
            seconds = before['seconds'] + time.monotonic() - start
            notes = {'key': key, 'seconds': seconds, 'cpu_seconds': round(cpu, 2)}
            write_json(self._started(stage.name), notes)
        self._stamp_finished(stage, notes)
        return seconds

    def _open_attempt(self, stage: Stage, key: str) -> dict:
        """Make way for a stage; returns what earlier attempts at the very same stage left: ``key``, ``seconds``, ..."""
        started = self._started(stage.name)
        before = _read_notes(started)
        if before.get('key') != key or not isinstance(before.get('seconds'), int | float):
            # what is left over from other settings must not be resumed
            before = {'key': key, 'seconds': 0.0}
            self._clear(stage)
        if stage.folder is not None:
            write_json(stage.folder / STAGE_MARK, {'stage': stage.name})
        self._stamp(stage.name).unlink(missing_ok=True)
        write_json(started, before)
        return before

    def _clear(self, stage: Stage) -> None:
        """Remove what other settings left in a stage's folder, which must bear our mark."""
        folder = stage.folder
        if folder is None or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        if not (folder / STAGE_MARK).is_file():
            raise UserError(
                f'{folder} holds files that this command did not make: move them away, or choose another --out'
            )
        self.console.print(f'removing {folder}, which was made with other settings', style='dim')
        shutil.rmtree(folder)

    def _stamp_finished(self, stage: Stage, notes: dict) -> None:
        """Leave the stamp of a stage that succeeded, with what was noted of its attempts."""
        content = {**notes, 'command': stage.shown, 'seconds': round(notes['seconds'], 1)}
        write_json(self._stamp(stage.name), content)
        self._started(stage.name).unlink()

    def _execute(self, stage: Stage) -> None:
        """Run the command with its output on the terminal and in a log."""
        log = self._log(stage.name)
        status = run_logged((sys.executable, *stage.command), log, self.root, self._environment())
        reason = failure(stage, status)
        if reason is None:
            return
        self._show_failure(stage, reason)
        raise StageFailedError(f'{stage.title}: {reason}; whole log: {log}. Run again to continue from here.')

    def _environment(self) -> dict[str, str]:
        """Environment of the commands: they find the project, and their logs are written as they go."""
        path = os.pathsep.join(filter(None, (str(self.root), os.environ.get('PYTHONPATH'))))
        return {**os.environ, 'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'}

    def _show_failure(self, stage: Stage, reason: str) -> None:
        """Show the last lines of a failed stage's log."""
        self.console.print(f'[bold red]{stage.title} failed[/] ({reason}). The last lines of its log:')
        for line in last_lines(self._log(stage.name), TAIL_LINES):
            self.console.print(f'  {line}', markup=False, highlight=False, soft_wrap=True)

    def _stamp(self, name: str) -> Path:
        return self.folder / 'stamps' / f'{name}.json'

    def _started(self, name: str) -> Path:
        return self.folder / 'stamps' / f'{name}.started.json'

    def _log(self, name: str) -> Path:
        return self.folder / 'logs' / f'{name}.log'

    def _headline(self, number: int, stage: Stage) -> str:
        return f'[bold]\\[{number}/{len(self.stages)}] {stage.title}[/]'


def _cpu_of_commands() -> float:
    """CPU seconds, of all cores, of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def clock(seconds: float) -> str:
    """A duration as h:mm:ss.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    return str(datetime.timedelta(seconds=round(seconds)))


def _read_notes(path: Path) -> dict:
    """What a stage noted; nothing where a crash of the machine damaged the file, so that it runs again."""
    try:
        notes = read_json(path)
    except UserError:
        return {}
    return notes if isinstance(notes, dict) else {}


def failure(stage: Stage, status: int) -> str | None:
    """Why a command that ended with this exit status did not succeed; None when it did."""
    if status:
        return f'exit status {status}'
    absent = [str(path) for path in stage.outputs if not path.exists()]
    return f'it did not write {", ".join(absent)}' if absent else None


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log as they look at last: what a carriage return overwrites is left out."""
    lines = log.read_text(errors='replace').replace('\r\n', '\n').rstrip().split('\n')[-count:]
    return [line.rstrip('\r').rsplit('\r', 1)[-1] for line in lines]


def run_logged(command: Sequence[str], log: Path, root: Path, environment: dict[str, str]) -> int:
    """Run a command; its output goes to our output as it is, and to a log without the frames of progress bars.

    On a terminal the command gets a terminal too, so that it draws its progress bars.

    Returns:
        its exit status; negative is the signal that killed it.
    """
    reader, writer = pty.openpty() if sys.stdout.isatty() else os.pipe()
    if os.isatty(writer):
        _copy_window_size(sys.stdout.fileno(), writer)
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        preexec_fn=end_with_parent,  # also where this process is killed
    )
    os.close(writer)
    log.parent.mkdir(parents=True, exist_ok=True)
    with _ended_with_us(process), log.open('a') as file:
        file.write(f'$ {shlex.join(command)}\n')
        for text in _chunks(reader):
            sys.stdout.write(text)
            sys.stdout.flush()
            _write_final_lines(file, text)
    os.close(reader)
    return process.wait()


def _chunks(reader: int) -> Iterator[str]:
    """Text from a file descriptor: whole lines, or what there is when a bar is drawn without ending its line."""
    rest = b''
    while True:
        try:
            data = os.read(reader, 65536)
        except OSError:  # how a terminal says that its other side is closed
            data = b''
        if not data:
            break
        rest += data
        cut = max(rest.rfind(b'\n'), rest.rfind(b'\r')) + 1
        yield rest[:cut].decode(errors='replace')
        rest = rest[cut:]
    yield rest.decode(errors='replace')


def _write_final_lines(file: IO[str], text: str) -> None:
    """Write lines as they look at last: what a carriage return overwrites is left out."""
    for line in text.replace('\r\n', '\n').splitlines(keepends=True):
        if not line.endswith('\r'):
            file.write(line)
    file.flush()


def _copy_window_size(source: int, target: int) -> None:
    """Give one terminal the size of another, for the width of progress bars."""
    size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack('HHHH', 0, 0, 0, 0))
    rows, columns, *_ = struct.unpack('HHHH', size)
    # some terminals say that they have no rows, and no bar would be drawn
    fcntl.ioctl(target, termios.TIOCSWINSZ, struct.pack('HHHH', rows or 24, columns or 80, 0, 0))


@contextmanager
def _ended_with_us(process: subprocess.Popen) -> Iterator[None]:
    """End a process when we are interrupted or told to end, and wait for it."""
    with sigterm_exits():
        try:
            yield
        except BaseException:
            process.terminate()
            process.wait()
            raise


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let being told to end unwind like an exception, so that what we started can be ended too."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

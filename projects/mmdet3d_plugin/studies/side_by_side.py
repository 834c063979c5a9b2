"""Run stages side by side: whatever waits for no other, as many as asked for, each measured."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import IO, ClassVar

from rich.live import Live
from rich.table import Table

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder, write_json
from projects.mmdet3d_plugin.engine.launch import end_with_parent
from projects.mmdet3d_plugin.studies.stages import (
    Stage,
    StageFailedError,
    StageRunner,
    clock,
    failure,
    last_lines,
    sigterm_exits,
)


class TimeUpError(UserError):
    """The time that was given is over, and not everything is finished."""


@dataclass
class Attempt:
    """A command at work.

    Attributes:
        stage: whose command it is.
        process: that runs it.
        before: notes of earlier attempts, as ``StageRunner._open_attempt`` returns them.
        start: on the monotonic clock.
    """

    stage: Stage
    process: subprocess.Popen
    before: dict
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long this attempt has run."""
        return time.monotonic() - self.start

    def reap(self, wait: bool = False) -> dict | None:
        """Notes on all attempts so far when the command has ended, None while it is running.

        Returns:
            ``key``; ``seconds``, ``cpu_seconds`` and ``attempts``, summed over attempts; ``peak_bytes``, the most
            resident memory of any process of the command.
        """
        pid, status, usage = os.wait4(self.process.pid, 0 if wait else os.WNOHANG)
        if pid == 0:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return {
            'key': self.before['key'],
            'seconds': self.before['seconds'] + self.seconds,
            'cpu_seconds': round(self.before.get('cpu_seconds', 0.0) + usage.ru_utime + usage.ru_stime, 2),
            # what Linux reports in KiB
            'peak_bytes': max(self.before.get('peak_bytes', 0), usage.ru_maxrss * 1024),
            'attempts': self.before.get('attempts', 0) + 1,
        }


@dataclass
class SideBySideRunner(StageRunner):
    """Runs stages as soon as what they build on is there. A failure stops only what builds on it.

    Stamps, logs and resumption are those of :class:`StageRunner`; a stamp also says what its command took, see
    :meth:`Attempt.reap`. What commands say goes to their logs only.

    Attributes:
        jobs: how many run at a time.
        variables: added to the environment of the commands.
        max_minutes: when these are over, what is running is ended, to go on from its last checkpoint next time.
    """

    jobs: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)
    max_minutes: float | None = None

    poll_seconds: ClassVar[float] = 0.2
    seconds_between_lines: ClassVar[float] = 60.0

    def run(self) -> None:
        """Run what is not finished.

        Raises:
            StageFailedError: some commands failed; everything that does not build on them is finished.
            TimeUpError: ``max_minutes`` are over.
            UserError: another process is at work in the same folder.
        """
        self._begin()
        try:
            display = nullcontext()
            if self.console.is_terminal:
                display = Live(
                    console=self.console, get_renderable=self._view, refresh_per_second=2, transient=True
                )
            with locked_folder(self.folder), sigterm_exits(), display:
                while self._start_ready() or self._running:
                    self._collect()
                    self._say_now_and_then()
                    minutes = (time.monotonic() - self._start) / 60
                    if self.max_minutes is not None and minutes >= self.max_minutes:
                        raise TimeUpError(
                            f'time is up: {len(self._waiting) + len(self._running)} of {len(self.stages)} steps '
                            'are left; run again to continue'
                        )
                    time.sleep(self.poll_seconds)
        finally:
            self._stop_all()
        self._raise_failures()

    def _begin(self) -> None:
        """Sort stages into finished and waiting."""
        self._start = self._last_line = time.monotonic()
        self._keys = self.keys()
        self._running: list[Attempt] = []
        self._failed: dict[str, str] = {}
        self._finished = self.finished_stages()
        self._waiting = [stage for stage in self.stages if stage.name not in self._finished]
        self._expected = self._measured = 0.0
        if self._finished:
            self.console.print(
                f'{len(self._finished)} of {len(self.stages)} steps were [green]finished before[/]'
            )

    def _start_ready(self) -> bool:
        """Start what may be started; returns whether anything was."""
        ready = [stage for stage in self._waiting if self._finished.issuperset(stage.after)]
        starting = ready[: max(0, self.jobs - len(self._running))]
        for stage in starting:
            self._waiting.remove(stage)
            self._running.append(self._start_stage(stage))
        return bool(starting)

    def _start_stage(self, stage: Stage) -> Attempt:
        """Start one command with its output in its log."""
        before = self._open_attempt(stage, self._keys[stage.name])
        log = self._log(stage.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('a') as file:
            file.write(f'$ {stage.shown}\n')
            file.flush()
            process = self._popen(stage, file)
        self.console.print(f'[bold]{stage.title}[/]')
        self.console.print(f'$ {stage.shown}', style='cyan', highlight=False, soft_wrap=True)
        return Attempt(stage, process, before)

    def _popen(self, stage: Stage, file: IO[str]) -> subprocess.Popen:
        """The process of a command."""
        return subprocess.Popen(
            (sys.executable, *stage.command),
            cwd=self.root,
            env={**self._environment(), **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,  # also where this process is killed
        )

    def _collect(self) -> None:
        """Stamp what has ended well, and remember what has not."""
        for attempt in list(self._running):
            notes = attempt.reap()
            if notes is None:
                continue
            self._running.remove(attempt)
            stage, reason = attempt.stage, failure(attempt.stage, attempt.process.returncode)
            if reason is None:
                self._stamp_finished(stage, notes)
                self._finished.add(stage.name)
                self._expected += stage.minutes
                self._measured += notes['seconds']
                self.console.print(f'[green]done[/] in {clock(notes["seconds"])}: {stage.title}')
            else:
                write_json(self._started(stage.name), notes)
                self._failed[stage.name] = f'{stage.title} ({reason}; whole log: {self._log(stage.name)})'
                self._show_failure(stage, reason)

    def _stop_all(self) -> None:
        """End what is running and note what it took."""
        for attempt in self._running:
            attempt.process.terminate()
        for attempt in self._running:
            write_json(self._started(attempt.stage.name), attempt.reap(wait=True))
        self._running = []

    def _raise_failures(self) -> None:
        """Name what failed, and what had to wait for it."""
        if not self._failed:
            return
        waiting = f'; {len(self._waiting)} steps build on that' if self._waiting else ''
        raise StageFailedError(
            f'{len(self._failed)} of {len(self.stages)} steps failed{waiting}: '
            f'{"; ".join(self._failed.values())}. Everything else is finished; run again to continue.'
        )

    def _view(self) -> Table:
        """What runs now, for how long, and the last line of each log."""
        table = Table.grid(padding=(0, 1))
        table.add_row(f'[bold]{self._summary()}[/]')
        for attempt in self._running:
            last = last_lines(self._log(attempt.stage.name), 1)[-1]
            table.add_row(f'{clock(attempt.seconds)} {attempt.stage.title}')
            table.add_row(f'[dim]{last[: self.console.width - 1]}[/]')
        return table

    def _say_now_and_then(self) -> None:
        """Without a terminal, a line every minute."""
        if self.console.is_terminal or time.monotonic() - self._last_line < self.seconds_between_lines:
            return
        self._last_line = time.monotonic()
        running = ', '.join(f'{a.stage.name} {clock(a.seconds)}' for a in self._running)
        self.console.print(f'{self._summary()}; now {running}', highlight=False)

    def _summary(self) -> str:
        elapsed = time.monotonic() - self._start
        return (
            f'{len(self._finished)} of {len(self.stages)} steps, total {clock(elapsed)}, '
            f'about {clock(self.seconds_left())} left'
        )

    def seconds_left(self) -> float:
        """Estimate from the expected minutes, at the pace of what is finished.

        As if work could be cut to fill all jobs evenly, but no less than the longest chain of what must wait for
        one another.
        """
        # one expected minute counts as kept, so that a single short step does not say much
        pace = (self._measured + 60.0) / (self._expected + 1.0)
        left = {stage.name: pace * stage.minutes for stage in self._waiting}
        for attempt in self._running:
            left[attempt.stage.name] = max(0.0, pace * attempt.stage.minutes - attempt.seconds)
        chains: dict[str, float] = {}
        for stage in self.stages:  # a stage comes after what it builds on
            before = max((chains[name] for name in stage.after), default=0.0)
            chains[stage.name] = before + left.get(stage.name, 0.0)
        return max(sum(left.values()) / self.jobs, *chains.values(), 0.0)

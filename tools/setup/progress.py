"""Run commands while the terminal shows which step of how many is under way, and for how long."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tools.setup.errors import SetupError

HEARTBEAT_S = 10  # a line this often where output is not a terminal
TAIL_LINES = 15
NETWORK_TROUBLE = r'Max retries exceeded|NewConnectionError|Temporary failure in name resolution|ReadTimeout'


@dataclass
class Job:
    """A command that runs with its output in a log.

    Args:
        title: What it does, for the user.
        command: The command line.
        log: File for its output.
        env: Its whole environment; None for this process's own.
        status: Says in a few words how far it is, given the seconds since it began (optional).
    """

    title: str
    command: Sequence[str | Path]
    log: Path
    env: Mapping[str, str] | None = None
    status: Callable[[float], str] | None = None
    process: subprocess.Popen | None = field(default=None, init=False)
    started: float = field(default=0.0, init=False)

    def start(self) -> 'Job':
        """Launch it in a process group of its own, so that an interruption reaches its compilers too."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with self.log.open('wb') as output:
            self.process = subprocess.Popen(
                [str(part) for part in self.command],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def stop(self) -> None:
        """End it and everything it started, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()

    def describe(self) -> str:
        """Title, seconds so far and the job's own words."""
        seconds = time.monotonic() - self.started
        words = self.status(seconds) if self.status else ''
        return f'{self.title} {clock(seconds)}' + (f' ({words})' if words else '')


class Progress:
    """Lines of the form ``[3/8] 1:05 compiling mmcv-full ...``; on a terminal, the current one is rewritten in place.

    Args:
        total: Number of steps.
        out: Where to write.
    """

    def __init__(self, total: int, out: TextIO = sys.stdout) -> None:
        self.total = total
        self.out = out
        self.begun = time.monotonic()
        self.last_beat = self.begun
        self.step = 0

    def advance(self, title: str) -> None:
        """Begin the next step."""
        self.step += 1
        self.say(title)

    def say(self, text: str) -> None:
        """Write one line that stays."""
        self.last_beat = time.monotonic()
        print(f'{self._clear()}{self._head()} {text}', file=self.out, flush=True)

    def beat(self, text: str) -> None:
        """Show that something is under way: in place on a terminal, else a line every now and then."""
        if self.out.isatty():
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be rewritten in place
            print(self._clear() + f'{self._head()} {text}'[:width], end='', file=self.out, flush=True)
        elif time.monotonic() - self.last_beat >= HEARTBEAT_S:
            self.say(text)

    def wait(self, *jobs: Job) -> None:
        """Wait for all jobs; the first that fails ends the others and raises with the end of its log."""
        while running := [job for job in jobs if job.process.poll() is None]:
            raise_if_failed(jobs)
            self.beat('; '.join(job.describe() for job in running))
            time.sleep(0.3)
        raise_if_failed(jobs)
        if self.out.isatty():
            print(self._clear(), end='', file=self.out, flush=True)

    def run(self, job: Job) -> None:
        """Start one job and wait for it."""
        with stopping(job.start()):
            self.wait(job)

    def _head(self) -> str:
        return f'[{self.step}/{self.total}] {clock(time.monotonic() - self.begun)}'

    def _clear(self) -> str:
        return '\r\x1b[K' if self.out.isatty() else ''


@contextlib.contextmanager
def stopping(*jobs: Job) -> Iterator[None]:
    """Whatever happens inside, no job outlives the block."""
    try:
        yield
    finally:
        for job in jobs:
            job.stop()


def raise_if_failed(jobs: Sequence[Job]) -> None:
    """Raise for the first job that ended with an error, with the likeliest reason as found in its log."""
    for job in jobs:
        if job.process.poll():
            raise SetupError(explain(job.title, job.log))


def explain(title: str, log: Path) -> str:
    """Turn a failed job's log into its last lines and one sentence.

    Args:
        title: What the job did.
        log: Its output.
    """
    text = log.read_text(errors='replace')
    tail = '\n'.join(f'  | {line}' for line in text.splitlines()[-TAIL_LINES:])
    return f'{tail}\n{title} failed: {likely_reason(text)} (whole log: {log})'


def likely_reason(text: str) -> str:
    """One clause on why pip or the compiler gave up, and what to do."""
    if 'No space left on device' in text:
        return 'the disk is full; make room and run it again'
    if re.search(NETWORK_TROUBLE, text):
        return 'the network went away; run it again and it goes on where it stopped'
    if missing := re.search(r'No matching distribution found for (\S+)', text):
        return f'the package index does not have {missing[1]}; check PIP_INDEX_URL'
    if re.search(r'Killed signal terminated program cc1plus|fatal error: Killed', text):
        return 'the compiler ran out of memory; run it again with MAX_JOBS=1'
    return 'see the lines above'


def pip_status(log: Path) -> str:
    """What pip is busy with according to its log, like ``Collecting numba==0.68.1``."""
    lines = log.read_text(errors='replace').splitlines() if log.is_file() else []
    telling = [line.strip() for line in lines if re.match(r'\s*(Collecting|Downloading|Installing) ', line)]
    return telling[-1].split(' (')[0].split(':')[0][:60] if telling else ''


def ninja_status(log: Path, seconds: float) -> str:
    """Files compiled so far as ninja counts them, and the time that the others will take.

    Args:
        log: Output of ninja.
        seconds: Time since it began.
    """
    counts = re.findall(rb'\[(\d+)/(\d+)\]', log.read_bytes()) if log.is_file() else []
    if not counts:
        return ''
    done, total = map(int, counts[-1])
    return f'{done} of {total} files, about {clock(seconds / done * (total - done))} left'


def clock(seconds: float) -> str:
    """Seconds as ``m:ss``."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'

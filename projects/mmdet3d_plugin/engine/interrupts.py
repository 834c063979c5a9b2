"""Ctrl-C and SIGTERM: never lost, and answered with where the run can go on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from projects.mmdet3d_plugin.common.checkpoint import find_latest
from projects.mmdet3d_plugin.common.errors import UserError


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers such as SLURM send it, ends a run like Ctrl-C."""


class _State:
    """What this process was told: by a signal, and by the run about its folder."""

    pending: signal.Signals | None = None
    work_dir: Path | None = None


@contextmanager
def caught() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into exceptions within a block; :func:`check` raises again one that got lost."""
    owner = os.getpid()

    def answer(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a data-loading process: it dies like any other
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        _State.pending = signal.Signals(number)
        check()

    try:
        before = {number: signal.signal(number, answer) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are not ours
        before = {}
    _State.work_dir = None
    try:
        yield
    finally:
        _State.pending = None
        for number, handler in before.items():
            signal.signal(number, handler)


def check() -> None:
    """Raise the signal that has arrived: Python drops an exception that falls into a fork or a destructor."""
    if _State.pending is not None:
        raise Terminated if _State.pending == signal.SIGTERM else KeyboardInterrupt


def remember(work_dir: Path) -> None:
    """Note the folder of the run in progress, for :func:`farewell`."""
    _State.work_dir = work_dir


def where_to_resume() -> str:
    """Which checkpoint ``--resume auto`` would go on from."""
    if _State.work_dir is None:
        return 'run the same command again'
    try:
        latest = find_latest(_State.work_dir)
    except UserError as error:
        return str(error)
    if latest is None:
        return f'there is no checkpoint in {_State.work_dir} yet, so it would begin anew'
    return f'--resume auto goes on from {latest}'


def farewell(error: KeyboardInterrupt) -> tuple[str, int]:
    """The last line of an interrupted run, and its exit status."""
    if isinstance(error, Terminated):
        return f'terminated: {where_to_resume()}', 128 + signal.SIGTERM
    return f'interrupted: {where_to_resume()}', 128 + signal.SIGINT

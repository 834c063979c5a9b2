"""Make a synthetic world part by part: in parallel, interruptible, the same bytes every time."""

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import cv2
from tqdm import tqdm

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json, write_json

STAMP = 'synthetic_world.json'
_UNFINISHED = 'synthetic_world.unfinished.json'
_PARTS = '.synthetic_parts'
_FIRST_FORMAT = 'nuscenes'  # worlds of it do not name their format: they are older than the others


class WorldError(UserError):
    """A world cannot be made as asked; the message says why and what to do."""


@dataclass(frozen=True)
class World(ABC):
    """A dataset to be made of parts that know nothing of each other.

    Attributes:
        spec: dataclass of all that decides the bytes.
        names: of the parts, in order.
    """

    format: ClassVar[str]
    unit: ClassVar[str]  # what a part is called
    derived: ClassVar[tuple[str, ...]]  # patterns of what tools/create_data.py makes of it

    spec: Any
    names: Sequence[str]

    @abstractmethod
    def folders(self, spec: dict[str, Any]) -> tuple[str, ...]:
        """Folders that a world of a spec fills."""

    @abstractmethod
    def make(self, root: Path, name: str) -> dict[str, Any]:
        """Make one part; returns what ``finish`` needs of it, which JSON can hold."""

    @abstractmethod
    def finish(self, root: Path, parts: list[dict[str, Any]]) -> None:
        """Write what describes the parts, given what they returned, in order."""


def build_world(root: Path, world: World, workers: int, progress: bool = True, force: bool = False) -> bool:
    """Make a world, or finish one that was interrupted; a finished one is left alone.

    Args:
        root: folder of the dataset.
        world: what to make.
        workers: processes; the result does not depend on it.
        progress: show a progress bar.
        force: replace a world that was made with other arguments, or make the same anew.

    Returns:
        Whether anything had to be done.

    Raises:
        WorldError: when it cannot be made as asked.
    """
    if not _prepare(root, world, force):
        return False
    todo = [name for name in world.names if not _is_whole(_part_path(root, name))]
    bar = tqdm(
        total=len(world.names), initial=len(world.names) - len(todo), unit=world.unit, disable=not progress
    )
    try:
        _run(root, world, todo, workers, bar)
        world.finish(root, [_read(_part_path(root, name)) for name in world.names])
        os.replace(root / _UNFINISHED, root / STAMP)  # the stamp comes last
        shutil.rmtree(root / _PARTS)
    except OSError as error:
        raise WorldError(f'{root} could not be written: {error}') from error
    except BrokenProcessPool as error:
        raise WorldError('a worker process was killed (out of memory?): try --workers 1') from error
    return True


def check_written(written: bool, path: Path) -> None:
    """OpenCV reports a full disk only by its return value."""
    if not written:
        raise OSError(f'{path} could not be written: is the disk full or the folder read-only?')


def _prepare(root: Path, world: World, force: bool) -> bool:
    """Look at the folder and mark it as under construction; returns False when the world is there already."""
    # What was not asked for is not noted, so that worlds from before there was such an option are still the same.
    wanted = {key: value for key, value in asdict(world.spec).items() if value is not None}
    try:
        root.mkdir(parents=True, exist_ok=True)
        found = _read(root / STAMP) or _read(root / _UNFINISHED)
        if found is None and any((root / name).exists() for name in world.folders(wanted)):
            raise WorldError(f'{root} holds a dataset that this tool did not make: give another --out')
        if found is not None and (other := found.get('format', _FIRST_FORMAT)) != world.format:
            raise WorldError(f'{root} holds a world in the format {other}: give another --out')
        if found is not None and found != wanted and not force:
            changed = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
            difference = ', '.join(f'{key} {found.get(key)} (asked: {wanted.get(key)})' for key in changed)
            raise WorldError(
                f'{root} holds a world with {difference}: give --force to replace it, or another --out'
            )
        if found is not None and force:
            _clear(root, world, found)
        if (root / STAMP).exists():
            return False
        write_json(root / _UNFINISHED, wanted)
        (root / _PARTS).mkdir(exist_ok=True)
    except OSError as error:
        raise WorldError(f'{root} cannot be written ({error.strerror}): give another --out') from error
    return True


def _clear(root: Path, world: World, found: dict) -> None:
    """Remove a world of ours, and the info files that describe it."""
    for name in (*world.folders(found), _PARTS):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in [root / STAMP, root / _UNFINISHED, *(p for glob in world.derived for p in root.glob(glob))]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _read(path: Path) -> dict | None:
    """Content of a stamp, None when there is none."""
    if not path.exists():
        return None
    content = read_json(path, 'delete that folder, or give another --out')
    if not isinstance(content, dict):
        raise WorldError(f'{path} is damaged: delete that folder, or give another --out')
    return content


def _is_whole(path: Path) -> bool:
    """Whether a part was finished; one that a crash of the machine damaged is made again."""
    try:
        return _read(path) is not None
    except UserError:
        return False


def _part_path(root: Path, name: str) -> Path:
    """Where the rows of a finished part wait for the others."""
    return root / _PARTS / f'{name}.json'


def _run(root: Path, world: World, names: list[str], workers: int, bar: tqdm) -> None:
    """Make the parts, in this process or in several."""
    with bar:
        if workers == 1 or len(names) == 1:
            for name in names:
                _make_part(root, world, name)
                bar.update()
            return
        # Forked, so that workers need not import everything again.
        pool = ProcessPoolExecutor(min(workers, max(len(names), 1)), get_context('fork'), _prepare_worker)
        try:
            futures: list[Future] = [pool.submit(_make_part, root, world, name) for name in names]
            for future in as_completed(futures):
                future.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """On Ctrl-C leave at once and without a word: a part that is not noted as complete is made anew."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _make_part(root: Path, world: World, name: str) -> None:
    """Make a part and note that it is complete."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process per core is faster than threads that wait for each other
    try:
        write_json(_part_path(root, name), world.make(root, name))
    finally:
        cv2.setNumThreads(threads)

"""Files that are whole or not there: written beside their place, flushed to the disk, and moved into place at once."""

import errno
import fcntl
import hashlib
import json
import math
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.memory import TOO_MUCH, bounded_memory

Target = str | os.PathLike
_TEMPORARY = re.compile(r'\..+\.(\d+)\.tmp')
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCKED: set[Path] = set()


def write_file(path: Target, write: Callable[[IO[bytes]], object], sync: bool = True) -> Path:
    """Write a file so that readers, and whoever comes after a crash, see the old one or the whole new one.

    Args:
        path: the file; its folder is made. A link is followed; what is no regular file (``/dev/stdout``) is written to.
        write: gets the open file.
        sync: also survive a power cut. False for many small files that can be made again.

    Returns:
        the path.

    Raises:
        UserError: the folder cannot be written to, or the disk is full. An old file is still there then.
    """
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_file():
            with open(place, 'wb') as file:
                write(file)
            return path
        temporary = temporary_name(place)
        try:
            _write_temporary(temporary, write, sync)
            os.replace(temporary, place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if sync:
            _sync_folder(place.parent)
    return path


def write_bytes(path: Target, content: bytes | memoryview, sync: bool = True) -> Path:
    """Write bytes, whole or not at all; see :func:`write_file`."""
    return write_file(path, lambda file: file.write(content), sync)


def write_text(path: Target, text: str, sync: bool = True) -> Path:
    """Write text as UTF-8, whole or not at all; see :func:`write_file`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder) / 'note.txt', 'whole or not at all').read_text()
        'whole or not at all'
    """
    return write_bytes(path, text.encode(), sync)


def write_json(path: Target, content: object, indent: int | None = None, sync: bool = True) -> Path:
    """Write JSON that every reader understands, whole or not at all: numbers that are not finite become null."""
    separators = (',', ':') if indent is None else None
    return write_text(path, to_json(content, indent=indent, separators=separators) + '\n', sync)


def write_pickle(path: Target, content: object) -> Path:
    """Pickle an object, whole or not at all; see :func:`write_file`."""
    return write_file(path, lambda file: pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL))


def write_link(path: Target, target: Target) -> Path:
    """Let ``path`` be a link to ``target``; at no moment is there none."""
    path = Path(path)
    temporary = temporary_name(path)
    with _explained(path):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    return path


def to_json(content: object, **options: Any) -> str:
    """JSON text in which numbers that are not finite are null.

    >>> to_json({'mAP': float('nan'), 'NDS': 0.5})
    '{"mAP": null, "NDS": 0.5}'
    """
    return json.dumps(_finite(content), allow_nan=False, **options)


def read_json(path: Target, mend: str = '') -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        mend: what a person can do when it is damaged, for the message.

    Raises:
        UserError: it is not there, or it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'there is no file {path}{mend and f": {mend}"}') from None
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror or error})') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is damaged ({error}){mend and f": {mend}"}') from None


def read_arrays(path: Target, mend: str = '') -> dict[str, np.ndarray]:
    """Read an ``.npz`` of plain arrays; one from a stranger can run no code.

    Args:
        path: the file.
        mend: what a person can do when it is damaged, for the message.

    Raises:
        UserError: it is not there, damaged, or holds anything else.
    """
    try:
        with open(path, 'rb') as opened, bounded_memory(opened), np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UserError(f'there is no file {path}{mend and f": {mend}"}') from None
    except MemoryError:
        raise UserError(f'{path} cannot be read: it is refused: {TOO_MUCH}{mend and f"; {mend}"}') from None
    except Exception as error:  # damaged archives, and files that are none, raise errors of every kind
        reason = f'it is no archive of plain arrays, or damaged ({error or type(error).__name__})'
        raise UserError(f'{path} cannot be read: {reason}{mend and f"; {mend}"}') from error


def read_metrics(path: Target, mend: str = 'evaluate again') -> dict[str, float]:
    """Read a ``metrics.json``; what it calls null is NaN.

    Raises:
        UserError: it is not there, or it does not hold metrics.
    """
    content = read_json(path, mend)
    if not isinstance(content, dict):
        raise UserError(f'{path} holds no metrics: {mend}')
    return {name: math.nan if value is None else value for name, value in content.items()}


def hash_file(path: Target) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: it is not there.
    """
    if not Path(path).is_file():
        raise UserError(f'there is no file {path}')
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def require_writable(folder: Target) -> Path:
    """Make a folder and try to write into it, before long work whose result goes there.

    Raises:
        UserError: it cannot be written to.
    """
    folder = Path(folder)
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_name(folder / 'probe')
        probe.touch()
        probe.unlink()
    return folder


def require_writable_file(path: Target) -> Path:
    """Check that a file could be written, before long work whose result goes there; it is not touched.

    Raises:
        UserError: it is a folder, or its folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file in it')
    if not path.exists() or path.is_file():
        require_writable(path.parent)
    return path


def temporary_name(path: Path) -> Path:
    """Where a file is written before it is moved into place; the number of the process tells whose it is."""
    return path.with_name(f'.{path.name}.{os.getpid()}.tmp')


def remove_temporaries(folder: Target) -> list[Path]:
    """Remove what processes that are no more left unfinished in a folder; returns the files."""
    left = []
    for path in Path(folder).glob('.*.tmp'):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            path.unlink(missing_ok=True)
            left.append(path)
    return left


def is_alive(process: int) -> bool:
    """Whether a process of this number runs on this machine.

    Example:
        >>> is_alive(os.getpid())
        True
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def locked_folder(folder: Target) -> Iterator[None]:
    """Keep every other process out of a folder; the lock ends with this process, however it ends.

    Raises:
        UserError: another process is at work there, or the folder cannot be written to.
    """
    path = Path(os.path.realpath(folder)) / '.lock'
    busy = f'is at work in {folder}: wait for it, end it, or choose another folder'
    if path in _LOCKED:
        raise UserError(f'this process itself {busy}')
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a+')
    with file:
        try:
            # unlike flock's, this lock is not inherited by data workers, which outlive a killed parent for a while
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(f'another process ({file.read().strip() or "unknown"}) {busy}') from None
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f'process {os.getpid()}')
        file.flush()
        _LOCKED.add(path)
        try:
            yield
        finally:
            _LOCKED.discard(path)


def _write_temporary(path: Path, write: Callable[[IO[bytes]], object], sync: bool) -> None:
    """Write a new file and bring it to the disk."""
    with open(path, 'wb') as file:
        noting = _NotesErrors(file)
        try:
            write(noting)
        except Exception as error:
            # torch's writer says of a full disk only that a position is unexpected
            raise noting.error or error from error
        file.flush()
        if sync:
            os.fsync(file.fileno())


class _NotesErrors:
    """A file that remembers why writing to it failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.error = file, None

    def write(self, content: bytes | memoryview) -> int:
        """Write, and note an error."""
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says into a sentence with the path and the mend."""
    try:
        yield
    except OSError as error:
        mend = 'make room and try again' if error.errno in _FULL else 'choose another place'
        raise UserError(f'{path} cannot be written ({error.strerror or error}): {mend}') from error


def _finite(value: Any) -> Any:
    """The same content with None for every number that is not finite, in plain Python types."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, 'tolist'):  # numpy and torch
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Errors that a user can cause, and the one line that each of them becomes."""

import errno
import pickle
import re
import traceback
import zipfile
from concurrent.futures.process import BrokenProcessPool
from json import JSONDecodeError
from pathlib import Path
from types import TracebackType

import torch


class UserError(ValueError):
    """Something that person can mend: a wrong path, a config that does not fit. Shown as one line, without a traceback.

    It is a ``ValueError``, so that a library's user need not know this class to catch it.
    """


PACKAGE = Path(__file__).resolve().parents[1]
_ON_DISK = {
    errno.ENOENT: 'there is no such file or folder',
    errno.ENOSPC: 'the disk is full: make room, then run again',
    errno.EDQUOT: 'the disk quota is used up: make room, then run again',
    errno.EROFS: 'the file system is read-only: choose another folder',
    errno.EACCES: 'permission denied: choose another path, or mend its permissions',
    errno.EPERM: 'this is not permitted: choose another path, or mend its permissions',
    errno.EISDIR: 'this is a folder where a file is expected',
    errno.ENOTDIR: 'a part of this path is a file where a folder is expected',
    errno.EEXIST: 'this exists already',
    errno.ENAMETOOLONG: 'this name is too long',
    errno.ELOOP: 'this link points to itself',
    errno.EMFILE: 'too many open files: raise "ulimit -n", or lower data.workers_per_gpu',
    errno.ENOMEM: 'the memory is used up: lower data.samples_per_gpu or data.workers_per_gpu',
}
_MEMORY = 'the memory is used up: lower data.samples_per_gpu or data.workers_per_gpu'
_OF_TORCH = (
    (r'inline_container|file write failed|PytorchStreamWriter failed', 'a checkpoint could not be written whole: is the disk full? make room, then run again'),
    (r'DataLoader worker \(pid.*\) is killed by signal: ([\w ]+)', r'a data-loading process was killed (\1): if the memory is used up, lower data.workers_per_gpu'),
    (r'DataLoader worker \(pid.*\) exited unexpectedly', 'a data-loading process ended without a word: if the memory is used up, lower data.workers_per_gpu'),
    (r'insufficient shared memory|unable to (?:open|write to|mmap) shared memory', 'the shared memory is used up: give the container more (--shm-size), or say data.workers_per_gpu=0'),
    (r'CUDA out of memory|can.t allocate memory|not enough memory', _MEMORY),
    (r'[Cc]onnection (?:reset|closed) by peer|Connection refused|Broken pipe|Socket Timeout|NCCL.*(?:remote|unhandled system)', 'the connection to another process of this run was lost: the message of that process says why'),
    (r'EADDRINUSE|[Aa]ddress already in use', 'the port of the run is in use: choose another with PORT=...'),
)  # fmt: skip
_SHAPES = re.compile(
    r'shapes cannot be multiplied|expected input|size mismatch|must match the (?:existing )?size|is invalid for input of size'
    r'|Sizes of tensors must match|normalized_shape|running_mean should contain|weight of size|expanded size'
    r'|to be divisible by|incompatible (?:tensor )?(?:size|shape)'
)
_LIBRARIES = ('mmcv', 'mmdet', 'mmdet3d')
_TRANSFORMS = ('pipelines', 'transforms')  # folders of mmdet, mmdet3d and ours
DAMAGED = (EOFError, pickle.UnpicklingError, zipfile.BadZipFile, JSONDecodeError, UnicodeDecodeError)
"""What readers raise for a file that is cut, overwritten, or holds code."""
_IN_WORKER = re.compile(r'Caught (\w+) in (?:DataLoader worker|pin memory thread|replica|process)')
_LAST_LINE = re.compile(r'^((?:\w+\.)*\w+)(?:: |$)', re.MULTILINE)


def explain(error: BaseException) -> str | None:
    """The sentence that tells a person what stopped the program and how to mend it.

    Errors of data-loading processes are read as what they were there, and what mmcv's registries raise again as what
    it was first.

    Args:
        error: as it arrived.

    Returns:
        Words without a traceback; None for what only a programmer can mend.

    Example:
        >>> explain(UserError('give the folder')), explain(RuntimeError('a fault of ours'))
        ('give the folder', None)
    """
    error = _first_raised(error)
    name, text = _unwrapped(error)
    if isinstance(error, UserError | FloatingPointError) or name.endswith(('UserError', 'DistillError')):
        return text
    if name == 'ValueError' and _raised_by_us(error):
        return text
    if isinstance(error, OSError) or (name.endswith('Error') and text.startswith('[Errno ')):
        return _explain_os_error(error, text)
    if isinstance(error, MemoryError) or name.endswith('OutOfMemoryError'):
        return _MEMORY
    if isinstance(error, BrokenProcessPool):
        return 'a process of the pool was killed: if the memory is used up, ask for fewer workers'
    if isinstance(error, DAMAGED):
        file = _file_in_hand(error)
        return f'{file} is damaged ({text or type(error).__name__}): make it again' if file else None
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        return _explain_torch(error, text) or _explain_part(error, text, 'losses')
    if isinstance(error, AssertionError | IndexError | ValueError) and (said := _explain_part(error, text)):
        return said
    return _explain_transform(error, name, text)


def lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another process of the run is gone."""
    return isinstance(error, RuntimeError) and re.search(_OF_TORCH[5][0], str(error)) is not None


def _first_raised(error: BaseException) -> BaseException:
    """What mmcv's registries could not raise again: ``type(e)(message)`` fails for errors of several arguments."""
    cut = re.search(r'missing \d+ required positional|takes exactly \d+ arguments', str(error))
    if (
        isinstance(error, TypeError)
        and cut
        and error.__context__ is not None
        and not error.__suppress_context__
    ):
        return error.__context__
    return error


def _raised_by_us(error: BaseException) -> bool:
    """Whether a statement of this package raised it, as its checks do, here or in a data-loading process."""
    frames = traceback.extract_tb(error.__traceback__)
    if _IN_WORKER.search(str(error)):
        found = re.findall(r'File "([^"]+)", line \d+, in .*\n +(.*)', str(error))
        file, line = found[-1] if found else ('', '')
    else:
        file, line = (frames[-1].filename, frames[-1].line or '') if frames else ('', '')
    return Path(file).is_relative_to(PACKAGE) and line.startswith('raise ')


def _unwrapped(error: BaseException) -> tuple[str, str]:
    """(name of the class, message), those of the worker where the error comes from one."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if not _IN_WORKER.search(text) or 'Traceback (most recent call last)' not in text:
        return type(error).__name__, text
    body = text[text.rindex('Traceback (most recent call last)') :]
    start = next((m for m in _LAST_LINE.finditer(body) if not m[1].startswith('Traceback')), None)
    if start is None:
        return type(error).__name__, text
    return start[1].rpartition('.')[2], body[start.end() :].strip()


def _explain_os_error(error: BaseException, text: str) -> str:
    """Path first, then what is wrong with it."""
    number, path = getattr(error, 'errno', None), getattr(error, 'filename', None)
    if number is None and (found := re.search(r'\[Errno (\d+)\] [^:]*(?:: (.*))?$', text)):
        number, path = int(found[1]), (found[2] or '').strip('\'"') or None
    if number not in _ON_DISK:
        return text or type(error).__name__
    file = path if path is not None else _file_in_hand(error)
    return f'{file}: {_ON_DISK[number]}' if file is not None else _ON_DISK[number]


def _explain_transform(error: BaseException, name: str, text: str) -> str | None:
    """A transform that misses what another one should have made before it."""
    frames = [(f.filename, f.name) for f in traceback.extract_tb(error.__traceback__)]
    if _IN_WORKER.search(str(error)):
        frames = re.findall(r'File "([^"]+)", line \d+, in (\w+)', str(error))
    file, _ = frames[-1] if frames else ('', '')
    if name == 'RecursionError' and any(Path(file).stem == 'collate' for file, _ in frames):
        return "samples cannot be put into a batch: the dataset's pipeline must end with a transform that formats them"
    if name == 'KeyError' and Path(file).parent.name in _TRANSFORMS:
        return f"a transform of {Path(file).stem} needs {text!r}, which none before it gives: check the dataset's pipeline"
    return None


def _explain_torch(error: RuntimeError, text: str) -> str | None:
    """Errors of torch's own that a person causes: full disks, killed workers, sizes of a config that do not fit."""
    for pattern, meaning in _OF_TORCH:
        if found := re.search(pattern, text):
            return found.expand(meaning) if '\\1' in meaning else meaning
    if _SHAPES.search(text):
        module = _module_in_hand(error.__traceback__)
        if module:
            return f'sizes in the config do not fit each other: {module} met {" ".join(text.split())}'
    return None


def _file_in_hand(error: BaseException | None) -> str | None:
    """The file that the innermost function with a path among its variables was busy with.

    mmcv's registries raise anew, so the function may be in the traceback of what came before.
    """
    while error is not None:
        for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
            for name in ('path', 'filename', 'file', 'filepath', 'file_path', 'ann_file'):
                value = frame.f_locals.get(name)
                if isinstance(value, str | Path) and str(value) and not str(value).endswith('.py'):
                    return str(value)
        error = error.__context__
    return None


def _explain_part(error: BaseException, text: str, folder: str = '') -> str | None:
    """The module of mmcv, mmdet or mmdet3d whose code raised, in torch perhaps: what its arguments say does not hold.

    Args:
        error: what was raised.
        text: its message.
        folder: part of the path that the code must have, for errors that may have other reasons elsewhere.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    while frames and 'torch' in Path(frames[-1].f_code.co_filename).parts:
        frames.pop()
    parts = set(Path(frames[-1].f_code.co_filename).parts) if frames else set()
    owners = [frame.f_locals['self'] for frame in frames if frame.f_code.co_name == 'forward']
    if not parts & set(_LIBRARIES) or (folder and folder not in parts):
        return None
    if not owners or type(owners[-1]).__module__.partition('.')[0] not in _LIBRARIES:
        return None
    line = text or traceback.extract_tb(error.__traceback__)[-1].line
    module = _module_in_hand(error.__traceback__)
    return f'{module} does not fit what it is given ({line}): check its arguments in the config'


def _module_in_hand(trace: TracebackType | None) -> str | None:
    """The path of the innermost module below the outermost one that computes, and its class."""
    modules = [
        owner
        for frame, _ in traceback.walk_tb(trace)
        if isinstance(owner := frame.f_locals.get('self'), torch.nn.Module)
    ]
    if not modules:
        return None
    names = {id(module): name for name, module in modules[0].named_modules()}
    place = next((names[id(module)] for module in reversed(modules) if names.get(id(module))), '')
    place = place.removeprefix('module.')  # of what wraps a model in training
    return f'{place} ({type(modules[-1]).__name__})' if place else type(modules[-1]).__name__

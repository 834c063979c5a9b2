"""Pickles of other people: numpy arrays and plain values are read, everything else is refused before it can run."""

import codecs
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import mmcv
import numpy as np
from mmcv.fileio.handlers import PickleHandler
from numpy.core import multiarray, numeric

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.memory import TOO_MUCH, bounded_memory

_LONGEST_RANGE = 10**6
_MEND = 'get the file again, or make it anew with tools/create_data.py'


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """What protocols 0 to 2 make bytes with; other codecs have no business in data."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'bytes encoded as {encoding!r}')
    return codecs.encode(text, 'latin1')


def _range(*bounds: int) -> range:
    """A range that whoever makes an array of it has the memory for."""
    made = range(*bounds)
    if max(abs(made.start), abs(made.stop)) > _LONGEST_RANGE:
        raise _Refused(f'a range up to {made.stop}')
    return made


_ALLOWED = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): _encode,
    ('collections', 'OrderedDict'): OrderedDict,
    ('__builtin__', 'xrange'): _range,
    ('builtins', 'range'): _range,
    **{
        (f'numpy.{core}.{module.__name__.rpartition(".")[2]}', name): getattr(module, name)
        for core in ('core', '_core')  # numpy 2 calls it _core
        for module, name in ((multiarray, '_reconstruct'), (multiarray, 'scalar'), (numeric, '_frombuffer'))
    },
    **{
        (module, kind.__name__): kind
        for module in ('builtins', '__builtin__')  # Python 2 calls it __builtin__
        for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, slice)
    },
}  # fmt: skip


class _SafeUnpickler(pickle.Unpickler):
    """An unpickler that knows no class but those of ``_ALLOWED``."""

    def find_class(self, module: str, name: str) -> Any:
        """Called for every class and function that a pickle names."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f'{module}.{name}') from None


class _Refused(pickle.UnpicklingError):
    """A pickle names something that is neither numpy's nor a plain value."""


def read_pickle(path: str | os.PathLike, mend: str = _MEND) -> Any:
    """Read a pickle of numpy arrays and plain values; a file from a stranger can run no code.

    Args:
        path: the file.
        mend: what a person can do when it cannot be read, for the message.

    Raises:
        UserError: it is not there, damaged, no pickle, or holds anything else.
    """
    try:
        with open(path, 'rb') as file:
            return load_pickle(file, mend)
    except FileNotFoundError:
        raise UserError(f'there is no file {path}: {mend}') from None
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror or error})') from error


def load_pickle(file: IO[bytes], mend: str = _MEND) -> Any:
    """:func:`read_pickle` of an open file."""
    name = getattr(file, 'name', 'a pickle')
    try:
        with bounded_memory(file):
            return _SafeUnpickler(file).load()
    except MemoryError:
        raise UserError(f'{name} is refused: {TOO_MUCH}; {mend}') from None
    except _Refused as error:
        raise UserError(
            f'{name} is refused: it holds {error}, and a pickle that holds more than numbers, text and numpy arrays '
            f'can run any code; {mend}'
        ) from None
    # Damage leads anywhere: wrong opcodes, sizes, text and counts raise what they please.
    except Exception as error:
        path = Path(name)
        empty = path.is_file() and not path.stat().st_size
        what = 'is empty' if empty else 'is damaged, cut off, or no pickle'
        raise UserError(f'{name} {what}: {mend}') from error


def guard_mmcv() -> None:
    """Let ``mmcv.load``, with which mmdet3d reads info files and databases of objects, take the same care."""
    mmcv.register_handler(['pickle', 'pkl'])(_SafeHandler)


class _SafeHandler(PickleHandler):
    """mmcv's reader and writer of pickles, reading safely."""

    def load_from_fileobj(self, file: IO[bytes], **_: Any) -> Any:
        """Read an open file."""
        return load_pickle(file)

"""The instance bank: what a detector found beside the labels of a sparse split, in one file that never changes."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_arrays, to_json, write_bytes

VERSION = 1
FATES = ('accepted', 'unsure', 'taken')
"""What became of a prediction: an object of the bank; neither object nor background for certain; or the place of a label
or of an accepted object, where nothing needs to be decided."""
REASONS = (
    '', 'score', 'partner', 'consistency', 'points', 'size', 'label', 'better one', 'inherited',
)  # fmt: skip
"""Why: accepted ones have '' or, taken over from the bank before, 'inherited'. Others: the score was too low; the second
view found nothing there; it found another box; too few points; a size that no label of the class has; a label is there;
a better one is there."""
_COLUMNS = {
    'frame': ('U', ()), 'box': ('f', (7,)), 'label': ('i', ()), 'score': ('f', ()), 'consistency': ('f', ()),
    'row': ('i', ()), 'partner': ('i', ()), 'born': ('i', ()), 'points': ('i', ()), 'fate': ('u', ()), 'reason': ('u', ()),
}  # fmt: skip


@dataclass(frozen=True)
class InstanceBank:
    """Every prediction of one round of mining and what became of it, n rows; the arrays cannot be written to.

    Attributes:
        header: ``version``, ``iteration``, ``classes``, ``thresholds`` by class, ``counts``, and the hashes of what the
            bank was made from: ``detector``, ``split``, ``parent`` (the bank before, where one counts), ``settings``.
        frame: (n,) names of frames, ascending.
        box: (n, 7) float32, LiDAR frame, bottom centres, metres: of an accepted one both views' mean, else as predicted.
        label: (n,) index into ``header['classes']``.
        score: (n,) of the prediction in the first view.
        consistency: (n,) intersection over union with the partner of the second view, 0 without one.
        row: (n,) which prediction of the frame's first view it is.
        partner: (n,) which prediction of its second view, -1 without one.
        born: (n,) iteration in which it was accepted first, 0 where it is not.
        points: (n,) LiDAR points in the box, -1 where nobody counted.
        fate: (n,) index into ``FATES``.
        reason: (n,) index into ``REASONS``.
    """

    header: Mapping[str, Any]
    frame: np.ndarray
    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    consistency: np.ndarray
    row: np.ndarray
    partner: np.ndarray
    born: np.ndarray
    points: np.ndarray
    fate: np.ndarray
    reason: np.ndarray

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            getattr(self, name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        """Equal when the files would be."""
        return isinstance(other, InstanceBank) and self.to_bytes() == other.to_bytes()

    __hash__ = None

    @property
    def accepted(self) -> np.ndarray:
        """(n,) bool, the objects."""
        return self.fate == FATES.index('accepted')

    @property
    def unsure(self) -> np.ndarray:
        """(n,) bool, what must count neither as object nor as background."""
        return self.fate == FATES.index('unsure')

    @property
    def names(self) -> np.ndarray:
        """(n,) class names."""
        return np.asarray(self.header['classes'], dtype=str)[self.label]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def columns(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def select(self, rows: np.ndarray) -> 'InstanceBank':
        """A bank of some rows, with the same header."""
        return InstanceBank(self.header, **{name: array[rows] for name, array in self.columns().items()})

    def in_frame(self, frame: str) -> np.ndarray:
        """Rows of a frame."""
        return np.arange(np.searchsorted(self.frame, frame), np.searchsorted(self.frame, frame, side='right'))

    def to_bytes(self) -> bytes:
        """The file: arrays without objects, and the header as JSON; the same bank gives the same bytes."""
        header = np.frombuffer(to_json(dict(self.header), sort_keys=True).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, header=header, **self.columns())
        return buffer.getvalue()

    def save(self, path: Path) -> Path:
        """Write the file, whole or not at all; a bank is never replaced by another one.

        Raises:
            UserError: another bank is there, or the folder cannot be written to.
        """
        content = self.to_bytes()
        if path.exists():
            if path.read_bytes() != content:
                raise UserError(
                    f'{path} holds another bank, and banks are never changed: choose another file'
                )
            return path
        return write_bytes(path, content)

    @classmethod
    def load(cls, path: Path) -> 'InstanceBank':
        """Read a bank.

        Raises:
            UserError: there is no such file, it is damaged, or of another version.
        """
        mend = 'mine it again with tools/mine.py'
        try:
            content = read_arrays(path, mend)
            header = json.loads(content['header'].tobytes())
            columns = {name: content[name] for name in _COLUMNS}
        except UserError:
            raise
        except (ValueError, KeyError) as error:
            raise UserError(f'{path} is no instance bank or is damaged ({error}): {mend}') from error
        if not isinstance(header, dict):
            raise UserError(f'{path} is no instance bank (its header is a {type(header).__name__}): {mend}')
        if header.get('version') != VERSION:
            raise UserError(
                f'{path} is a bank of version {header.get("version")}, this project reads {VERSION}: {mend}'
            )
        _check_columns(path, columns, mend)
        return cls(header, **columns)


def _check_columns(path: Path, columns: dict[str, np.ndarray], mend: str) -> None:
    """Refuse arrays of other kinds or shapes."""
    rows = len(columns['frame'])
    for name, (kind, width) in _COLUMNS.items():
        array = columns[name]
        if array.dtype.kind != kind or array.shape != (rows, *width):
            raise UserError(
                f'{path}: {name} is {array.dtype}{array.shape} and cannot be a column of {rows} rows: {mend}'
            )

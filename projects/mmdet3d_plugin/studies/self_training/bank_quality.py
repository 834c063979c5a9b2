"""How good a bank is, judged by the labels that were hidden: the only place where they are read."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.datasets.converters.kitti_converter import points_in_boxes
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.mining import footprint_overlaps, match, overlaps
from projects.mmdet3d_plugin.datasets.transforms.remove_points import RemovePoints

OVERLAPS = (0.5, 0.7)
COVERED = 0.1
"""Overlap from above with an accepted or ambiguous box, from which on an object no longer counts as background."""


@dataclass(frozen=True)
class TrueFrame:
    """All that is true of a frame.

    Attributes:
        frame: its name.
        boxes: (n, 7) float64, LiDAR frame, bottom centres, metres.
        labels: (n,) classes, by the bank's names; none below zero.
        kept: (n,) bool, whether the label was kept.
        points: loads (N, 3) float32.
    """

    frame: str
    boxes: np.ndarray
    labels: np.ndarray
    kept: np.ndarray
    points: Callable[[], np.ndarray]


@dataclass(frozen=True)
class ClassQuality:
    """Counts and errors of one class, or of all.

    Attributes:
        annotated: objects that kept their labels.
        hidden: objects whose labels were hidden.
        accepted: objects of the bank.
        right: of these, by overlap in space, those that lie on an object of their class, each object once.
        found: hidden objects that an accepted one lies on, by overlap.
        confused: accepted ones that lie on an object of another class and on none of their own.
        poison: hidden objects that still count as background: neither accepted nor in an ambiguous box.
        centre: mean distance of the centres of the right ones (at the lower overlap), metres.
        size: their mean relative error of length, width and height.
        heading: their mean error of the heading, degrees.
    """

    annotated: int
    hidden: int
    accepted: int
    right: tuple[int, ...]
    found: tuple[int, ...]
    confused: int
    poison: int
    centre: float
    size: float
    heading: float

    @property
    def precision(self) -> tuple[float, ...]:
        """Share of the accepted that is right, by overlap; NaN where nothing was accepted."""
        return tuple(_share(count, self.accepted) for count in self.right)

    @property
    def recall(self) -> tuple[float, ...]:
        """Share of the hidden that was found, by overlap; NaN where nothing was hidden."""
        return tuple(_share(count, self.hidden) for count in self.found)


@dataclass(frozen=True)
class BankQuality:
    """How good a bank is.

    Attributes:
        iteration: of the bank.
        classes: by name, and 'all'.
        removed: points that are removed.
        lost: of these, the points of no object: background that is lost.
    """

    iteration: int
    classes: dict[str, ClassQuality]
    removed: int
    lost: int

    def as_json(self) -> dict[str, Any]:
        """Counts, errors and shares as plain data."""
        rows = {
            name: {**asdict(row), 'precision': row.precision, 'recall': row.recall}
            for name, row in self.classes.items()
        }
        return dict(
            iteration=self.iteration, overlaps=OVERLAPS, classes=rows, removed=self.removed, lost=self.lost
        )


def assess(
    bank: InstanceBank, frames: Sequence[TrueFrame], remove: RemovePoints | None = None
) -> BankQuality:
    """Compare a bank with the truth.

    Args:
        bank: that is judged.
        frames: the truth, objects out of reach left out.
        remove: how points are removed; its defaults by default.
    """
    remove = remove or RemovePoints()
    names = list(bank.header['classes'])
    tallies = [_Tally() for _ in names]
    removed = lost = 0
    for frame in frames:
        rows = bank.in_frame(frame.frame)
        mined, unsure = bank.select(rows[bank.accepted[rows]]), bank.select(rows[bank.unsure[rows]])
        _count_frame(tallies, frame, mined, unsure)
        if len(unsure):
            points = frame.points()
            gone = points[remove.inside(points, unsure.box)]
            removed += len(gone)
            lost += int((~points_in_boxes(gone, frame.boxes.astype(np.float32)).any(1)).sum())
    classes = {name: tally.quality() for name, tally in zip(names, tallies, strict=True)}
    classes['all'] = sum(tallies, _Tally()).quality()
    return BankQuality(int(bank.header['iteration']), classes, removed, lost)


class _Tally:
    """Sums over frames, of one class."""

    def __init__(self) -> None:
        self.annotated = self.hidden = self.accepted = self.confused = self.poison = 0
        self.right, self.found = np.zeros(len(OVERLAPS), np.int64), np.zeros(len(OVERLAPS), np.int64)
        self.errors: list[np.ndarray] = []

    def __add__(self, other: '_Tally') -> '_Tally':
        both = _Tally()
        for key in vars(both):
            setattr(both, key, getattr(self, key) + getattr(other, key))
        return both

    def quality(self) -> ClassQuality:
        """As it is told."""
        errors = np.mean(self.errors, 0) if self.errors else np.full(3, np.nan)
        return ClassQuality(
            self.annotated,
            self.hidden,
            self.accepted,
            tuple(self.right.tolist()),
            tuple(self.found.tolist()),
            self.confused,
            self.poison,
            *errors.tolist(),
        )


def _count_frame(
    tallies: Sequence[_Tally], frame: TrueFrame, mined: InstanceBank, unsure: InstanceBank
) -> None:
    """Add what a frame shows."""
    boxes = mined.box.astype(np.float64)
    partner, overlap = match(boxes, mined.label, frame.boxes, frame.labels)
    covering = np.concatenate([boxes, unsure.box.astype(np.float64)])
    covered = (footprint_overlaps(frame.boxes, covering) > COVERED).any(1)
    table = overlaps(boxes, frame.boxes)
    for label, tally in enumerate(tallies):
        own, true = mined.label == label, frame.labels == label
        tally.annotated += int((true & frame.kept).sum())
        tally.hidden += int((true & ~frame.kept).sum())
        tally.accepted += int(own.sum())
        tally.poison += int((true & ~frame.kept & ~covered).sum())
        tally.confused += int((own & (overlap < OVERLAPS[0]) & (table[:, ~true] >= OVERLAPS[0]).any(1)).sum())
        for i, least in enumerate(OVERLAPS):
            right = own & (overlap >= least)
            tally.right[i] += right.sum()
            tally.found[i] += (~frame.kept[partner[right]]).sum()
        right = own & (overlap >= OVERLAPS[0])
        tally.errors += list(_errors(boxes[right], frame.boxes[partner[right]]))


def _errors(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, 3) distance of centres in metres, relative error of sizes, error of headings in degrees."""
    raise_ = np.array([0, 0, 0.5])
    centres = [b[:, :3] + b[:, 5:6] * raise_ for b in (boxes, truth)]
    turn = (boxes[:, 6] - truth[:, 6] + np.pi) % (2 * np.pi) - np.pi
    return np.column_stack(
        [
            np.linalg.norm(centres[0] - centres[1], axis=1),
            np.abs(boxes[:, 3:6] / truth[:, 3:6] - 1).mean(1),
            np.degrees(np.abs(turn)),
        ]
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float('nan')

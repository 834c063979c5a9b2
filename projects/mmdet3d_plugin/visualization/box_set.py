"""Boxes to be drawn, free of any framework's box class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BoxSet:
    """3D boxes in the LiDAR frame.

    Attributes:
        boxes: (n, 7+) gravity centre ``x, y, z`` and ``l, w, h`` in metres, ``yaw`` in radians
            counter-clockwise from x, then optionally ``vx, vy`` in m/s.
        labels: (n,) class indices.
        scores: (n,) in [0, 1], or None for true boxes.

    Raises:
        ValueError: shapes do not fit, or a box or score is not finite.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] < 7 or len(self.boxes) != len(self.labels):
            raise ValueError(
                f'boxes must be (n, 7+) with n labels, got boxes {self.boxes.shape} and '
                f'labels {self.labels.shape}'
            )
        finite = np.isfinite(self.boxes[:, :7]).all(axis=1)
        if self.scores is not None:
            finite &= np.isfinite(self.scores)
        if not finite.all():
            first = int(np.argmin(finite))
            score = '' if self.scores is None else f', score {self.scores[first]:g}'
            raise ValueError(
                f'{(~finite).sum()} of {len(finite)} boxes cannot be drawn, they are not finite: the first is '
                f'{np.round(self.boxes[first, :7], 3).tolist()}{score}'
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> 'BoxSet':
        """The boxes at an index array or where a mask is true."""
        scores = None if self.scores is None else self.scores[keep]
        return BoxSet(self.boxes[keep], self.labels[keep], scores)

    def above(self, threshold: float) -> 'BoxSet':
        """Boxes with a score of at least ``threshold``; true boxes all pass."""
        return self if self.scores is None else self.select(self.scores >= threshold)

    def names(self, classes: Sequence[str]) -> list[str]:
        """Names of the classes present, in class order."""
        return [classes[int(label)] for label in np.unique(self.labels)]


def present_classes(sets: Sequence[BoxSet | None], classes: Sequence[str]) -> list[str]:
    """Names of the classes in any of the sets, in class order.

    Example:
        >>> present_classes([None], ['car'])
        []
    """
    seen = {name for boxes in sets if boxes is not None for name in boxes.names(classes)}
    return [name for name in classes if name in seen]

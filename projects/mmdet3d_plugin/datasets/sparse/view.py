"""One frame seen twice: mirrored, turned and scaled, and exactly back again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.mmdet3d_plugin.common.geometry import transform_boxes, transform_points


@dataclass(frozen=True)
class View:
    """A similarity of the LiDAR frame: first y is mirrored, then all is turned about z, then scaled.

    Attributes:
        flip: whether y is mirrored.
        angle: radians, counter-clockwise.
        scale: factor on everything.
    """

    flip: bool = False
    angle: float = 0.0
    scale: float = 1.0

    @classmethod
    def draw(cls, entropy: Sequence[int], flip: bool, rotate: float, scale: tuple[float, float]) -> 'View':
        """A view of chance.

        Args:
            entropy: numbers that decide it.
            flip: mirror y.
            rotate: largest angle either way, radians.
            scale: least and largest factor.
        """
        turn, size = np.random.default_rng(list(entropy)).random(2)
        return cls(flip, (2 * turn - 1) * rotate, scale[0] + size * (scale[1] - scale[0]))

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4), takes points from the frame to the view."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        size = np.diag([self.scale, self.scale, self.scale, 1.0])
        return size @ turn @ np.diag([1.0, -1.0 if self.flip else 1.0, 1.0, 1.0])

    def points(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points of the frame -> the same in the view."""
        return transform_points(points, self.matrix)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(n, 7) boxes of the frame, gravity or bottom centres -> the same in the view, float64."""
        return transform_boxes(np.asarray(boxes, np.float64), self.matrix)

    def original(self, boxes: np.ndarray) -> np.ndarray:
        """(n, 7) boxes of the view -> the same in the frame, float64."""
        return transform_boxes(np.asarray(boxes, np.float64), np.linalg.inv(self.matrix))

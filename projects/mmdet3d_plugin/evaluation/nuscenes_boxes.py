"""Boxes of nuScenes' detection task as arrays, predicted or true, in the global frame."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES

CLASSES: tuple[str, ...] = tuple(DETECTION_NAMES)
ATTRIBUTES: tuple[str, ...] = tuple(ATTRIBUTE_NAMES)
NO_ATTRIBUTE = -1


@dataclass(frozen=True)
class NuScenesBoxes:
    """n boxes of some samples, those of a sample one after the other, as the devkit lists them.

    Attributes:
        sample: (n,) int64, ascending: which of the samples.
        label: (n,) int8, place in :data:`CLASSES`.
        translation: (n, 3) float64, centre in the global frame, metres.
        size: (n, 3) float64, width, length, height in metres.
        rotation: (n, 4) float64, quaternion wxyz from the box to the global frame.
        velocity: (n, 2) float64, m/s along x and y of the global frame; NaN where it is not known.
        attribute: (n,) int8, place in :data:`ATTRIBUTES`, or -1 for none.
        score: (n,) float64; of true boxes -1.
        points: (n,) int64, LiDAR and radar points within; of predictions -1.
    """

    sample: np.ndarray
    label: np.ndarray
    translation: np.ndarray
    size: np.ndarray
    rotation: np.ndarray
    velocity: np.ndarray
    attribute: np.ndarray
    score: np.ndarray
    points: np.ndarray

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, rows: np.ndarray) -> 'NuScenesBoxes':
        """The boxes of some rows, a mask (n,) or indices."""
        return NuScenesBoxes(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def join(cls, parts: Sequence['NuScenesBoxes']) -> 'NuScenesBoxes':
        """The boxes of several, in their order; at least one."""
        return cls(*(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls)))

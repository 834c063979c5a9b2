"""Features of teacher and student beside each other, as arrays to be drawn and counted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CAMERAS, BEV, ELSEWHERE = 'cameras', 'bev', 'elsewhere'


@dataclass(frozen=True)
class Gap:
    """Mean over channels and cells of the squared difference between two features.

    Attributes:
        everywhere: over all cells.
        inside: over the region, weighted by it; NaN without one or where it is empty.
        outside: over the cells of weight 0; NaN without a region.
    """

    everywhere: float
    inside: float
    outside: float


@dataclass(frozen=True)
class Comparison:
    """What one term compares, of one sample. Maps have N rows: one per camera, or one for the BEV map.

    Attributes:
        name: of the term.
        place: ``CAMERAS``, ``BEV``, or ``ELSEWHERE`` for features that are no maps.
        teacher: (N, C, H, W); None where it is no tensor, but voxels or outputs of a head.
        student: (N, C, H, W) through the connector; None if only the generated feature is compared, if the
            connector is untrained, or for a loss that aligns by itself features of different widths or sizes.
        generated: (N, C, H, W), None for a term that generates nothing or with an untrained generator.
        region: (N, H, W) weights, None for a term that looks everywhere. Of a term that looks at the positions of
            queries: how much of their weight each cell gets, the largest being 1.
        loss: with its weight; None while connector and generator are untrained.
        limits: x0, y0, z0, x1, y1, z1 in metres that BEV maps cover, LiDAR frame; empty elsewhere.
    """

    name: str
    place: str
    teacher: np.ndarray | None
    student: np.ndarray | None = None
    generated: np.ndarray | None = None
    region: np.ndarray | None = None
    loss: float | None = None
    limits: Sequence[float] = ()

    @property
    def student_features(self) -> dict[str, np.ndarray]:
        """The student's features that there are, by name."""
        both = {'student': self.student, 'generated': self.generated}
        return {name: feature for name, feature in both.items() if feature is not None}

    @property
    def share(self) -> float:
        """Share of the cells that the region covers, NaN without one."""
        return float('nan') if self.region is None else float((self.region > 0).mean())

    @property
    def extent(self) -> str:
        """The region in words: how many cells it covers, and its largest weight where that is not 1."""
        if self.region is None:
            return 'no region: everywhere'
        h, w = self.region.shape[1:]
        most = self.region.max()
        weights = f', weights up to {most:.2g}' if most not in (0, 1) else ''
        return f'region: {self.share:.1%} of {w} x {h} cells{weights}'

    def gap_map(self, name: str) -> np.ndarray:
        """Mean over channels of the squared difference between the teacher and one of :attr:`student_features`: (N, H, W)."""
        return np.square(self.student_features[name] - self.teacher).mean(axis=1)

    def gap(self, name: str) -> Gap:
        """The same inside and outside the region."""
        return measure_gap(self.gap_map(name), self.region)


@dataclass(frozen=True)
class BEVMaps:
    """Two maps seen from above, of the same metres, as the detectors made them: no connector lies between.

    Attributes:
        name: of the first term that compares them.
        teacher: (C, H, W), row = y, column = x.
        student: (D, h, w), the same.
        limits: x0, y0, z0, x1, y1, z1 in metres that both cover, LiDAR frame.
    """

    name: str
    teacher: np.ndarray
    student: np.ndarray
    limits: Sequence[float]


@dataclass(frozen=True)
class Positions:
    """Where queries sample the BEV map.

    Attributes:
        places: (n, 2) as x, y in metres, LiDAR frame.
        weights: (n,) attention times confidence.
        layers: (n,) decoder layer, from 0.
    """

    places: np.ndarray
    weights: np.ndarray
    layers: np.ndarray


def measure_gap(gap: np.ndarray, region: np.ndarray | None) -> Gap:
    """Average a map of gaps (N, H, W) over everything, inside and outside a region (N, H, W).

    Example:
        >>> measure_gap(np.ones((1, 2, 2)), None)
        Gap(everywhere=1.0, inside=nan, outside=nan)
    """
    nan = float('nan')
    if region is None:
        return Gap(float(gap.mean()), nan, nan)
    area, rest = region.sum(), region == 0
    inside = float((gap * region).sum() / area) if area > 0 else nan
    return Gap(float(gap.mean()), inside, float(gap[rest].mean()) if rest.any() else nan)

"""What decides which predictions become objects of the bank."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.common.config_checks.numbers import check_between, check_factors
from projects.mmdet3d_plugin.common.config_checks.types import require_values
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest
from projects.mmdet3d_plugin.datasets.sparse.view import View

LABELS = 'labels'
"""In place of a threshold: find it, class by class, from what is predicted for labelled objects."""
KEEPS = ('fresh', 'monotone')
_LIMITS = {
    'between': (0, 1), 'weight': (0, 1), 'rotate': (0, math.pi), 'least_labels': (1, math.inf),
    'least_points': (0, math.inf), 'sigmas': (0, math.inf), 'overlap': (0, 1),
}  # fmt: skip
"""What numbers may be."""


@dataclass(frozen=True)
class MiningSettings:
    """Settings of one round of mining; in a config ``self_training.mine``.

    Attributes:
        least_score: predictions below it are noise, neither mined nor held unsure.
        score: what a prediction must reach: a number, one per class, or 'labels'.
        both_scores: whether its partner in the second view must reach it too.
        consistency: intersection over union with the partner that is asked for: a number, one per class, or 'labels'.
        between: where 'labels' puts a threshold: 0 at the lower of the two centres of 2-means, 1 at the upper.
        least_labels: fewer labelled objects of a class that were found, and 'labels' takes those of all classes; fewer of all
            classes together, and it falls back to the next two.
        usual_score: of a detector that finds too few labels.
        usual_consistency: of a detector that finds too few labels.
        flip: whether the second view is mirrored.
        rotate: its largest angle, radians; keep to what the detector trains with.
        scale: its least and largest scale.
        weight: of the first view in an accepted box; None weighs both by their scores.
        least_points: LiDAR points that an object must have.
        overlap: intersection over union from above that two accepted objects may have.
        sigmas: how many standard deviations (of the logarithm) a size may be off the mean size of the class's labels.
        keep: 'fresh' mines anew each time; 'monotone' never gives up what the bank before has.
    """

    least_score: float = 0.1
    score: float | str | Mapping[str, float] = LABELS
    both_scores: bool = False
    consistency: float | str | Mapping[str, float] = 0.5
    between: float = 0.5
    least_labels: int = 10
    usual_score: float = 0.7
    usual_consistency: float = 0.5
    flip: bool = True
    rotate: float = 0.39
    scale: tuple[float, float] = (0.95, 1.05)
    weight: float | None = None
    least_points: int = 5
    overlap: float = 0.1
    sigmas: float = 3.0
    keep: str = 'fresh'

    def __post_init__(self) -> None:
        if self.keep not in KEEPS:
            raise UserError(f'mining: keep is {self.keep!r}; choose one of {", ".join(KEEPS)}')
        for name in ('score', 'consistency'):
            value = getattr(self, name)
            if isinstance(value, str) and value != LABELS:
                raise UserError(
                    f'mining: {name} is {value!r}: it must be a number, one per class, or {LABELS!r}'
                )

        for name, (least, most) in _LIMITS.items():
            check_between(f'mining: {name}', getattr(self, name), least, most)
        check_factors('mining: scale', self.scale)

    def require_classes(self, classes: Sequence[str]) -> None:
        """Refuse thresholds by class for other classes than the detector's.

        Raises:
            UserError: one is missing, or is that of no class.
        """
        for name in ('score', 'consistency'):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                continue
            for other in value:
                if other not in classes:
                    raise UserError(
                        f'mining: {name} has a threshold for {other!r}; {nearest(other, classes)}'
                    )
            for own in classes:
                if own not in value:
                    raise UserError(f'mining: {name} has no threshold for {own}: say one for every class')

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None, place: str) -> 'MiningSettings':
        """Settings of a config.

        Raises:
            UserError: an unknown name, or a value of another type.
        """
        if not isinstance(settings, Mapping | None):
            raise UserError(f'{place} is {settings!r}: it must be a dict of settings')
        settings = dict(settings or {})
        known = cls.__dataclass_fields__
        for key in settings:
            if key not in known:
                raise UserError(f'{place} takes no {key!r}; {nearest(key, known)}')
        require_values(cls, settings, f'{place}.')
        if 'scale' in settings:
            settings['scale'] = tuple(settings['scale'])
        return cls(**settings)

    def view(self, seed: int, iteration: int, frame: str) -> View:
        """The second view of a frame; the same for the same seed, iteration and frame."""
        return View.draw([seed, iteration, *frame.encode()], self.flip, self.rotate, self.scale)

    def as_plain(self) -> dict[str, Any]:
        """For a header."""
        return asdict(self)


def two_means(values: np.ndarray) -> tuple[float, float]:
    """The two centres that k-means with k = 2 has at its best, exact in one dimension.

    Args:
        values: (n,), at least one.

    Returns:
        The lower and the upper centre; twice the same where all values are equal.

    Example:
        >>> two_means(np.array([0.75, 0.25, 0.5, 1.0]))
        (0.375, 0.875)
    """
    values = np.sort(np.asarray(values, np.float64))
    count = np.arange(1, len(values))
    if not len(count):
        return float(values[0]), float(values[0])
    total, square = values.cumsum()[:-1], (values**2).cumsum()[:-1]
    rest = len(values) - count
    spread = square - total**2 / count
    spread += ((values**2).sum() - square) - (values.sum() - total) ** 2 / rest
    cut = int(np.argmin(spread)) + 1
    return float(values[:cut].mean()), float(values[cut:].mean())

"""Statistics of a handful of seeds."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """One figure over seeds.

    Attributes:
        mean: of all seeds.
        deviation: standard deviation with n - 1 in the denominator, None for one seed.
        low: the least.
        high: the most.
        count: number of seeds.
    """

    mean: float
    deviation: float | None
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Gain:
    """A difference between two rows, paired by seed.

    Attributes:
        mean: of the differences.
        half_width: of the 95 % interval of the mean by Student's t, None for one seed.
        differences: by seed.
    """

    mean: float
    half_width: float | None
    differences: Mapping[int, float]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, None for one seed."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)


def spread_of(values: Iterable[float]) -> Spread | None:
    """Mean and spread; None of no values.

    Example:
        >>> spread_of([1.0, 2.0, 3.0])
        Spread(mean=2.0, deviation=1.0, low=1.0, high=3.0, count=3)
    """
    values = list(values)
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, min(values), max(values), len(values))


def paired_gain(base: Mapping[int, float], other: Mapping[int, float]) -> Gain | None:
    """What ``other`` has more than ``base``, over the seeds that both have; None when there are none.

    Args:
        base: seed -> value.
        other: seed -> value.

    Example:
        >>> paired_gain({0: 10.0, 1: 11.0}, {0: 12.0, 1: 14.0}).mean
        2.5
    """
    from scipy import stats  # seconds, which no command line should wait for

    differences = {seed: other[seed] - base[seed] for seed in sorted(base.keys() & other.keys())}
    if not differences:
        return None
    values = list(differences.values())
    half_width = None
    if len(values) > 1:
        # scaled afterwards: scipy has no interval of scale 0, which equal seeds give
        half_width = float(stats.t.interval(CONFIDENCE, len(values) - 1)[1] * stats.sem(values))
    return Gain(statistics.fmean(values), half_width, differences)


def share_of(part: float, whole: float) -> float | None:
    """``part / whole``; None when there is no positive whole to have a share of.

    Example:
        >>> share_of(2.0, 8.0), share_of(2.0, -1.0)
        (0.25, None)
    """
    return part / whole if whole > 0 else None


def ranges_apart(better: Iterable[float], worse: Iterable[float]) -> bool | None:
    """Whether the least of one is above the most of the other; None when either has fewer than two values.

    Example:
        >>> ranges_apart([17.2, 17.3], [16.9, 17.1])
        True
    """
    better, worse = list(better), list(worse)
    if min(len(better), len(worse)) < 2:
        return None
    return min(better) > max(worse)

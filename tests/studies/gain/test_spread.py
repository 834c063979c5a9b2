"""Statistics of a few seeds, against numbers worked out by hand."""

import math

import pytest

from projects.mmdet3d_plugin.studies.gain.spread import (
    paired_gain,
    ranges_apart,
    share_of,
    spread_of,
)


def test_mean_deviation_and_range() -> None:
    spread = spread_of([10.0, 12.0, 17.0])
    assert spread.mean == pytest.approx(13.0)
    # deviations -3, -1, 4: squares sum to 26, over n - 1 = 2
    assert spread.deviation == pytest.approx(math.sqrt(13))
    assert (spread.low, spread.high, spread.count) == (10.0, 17.0, 3)


def test_one_value_has_no_deviation_and_none_has_nothing() -> None:
    assert spread_of([5.0]).deviation is None
    assert spread_of([]) is None


def test_interval_of_three_is_that_of_the_table() -> None:
    # t(0.975, 2) = 4.3027; s = 1, n = 3
    gain = paired_gain(dict.fromkeys(range(3), 0.0), {0: 1.0, 1: 2.0, 2: 3.0})
    assert gain.half_width == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)


def test_interval_of_five_is_that_of_the_table() -> None:
    # t(0.975, 4) = 2.7764; deviations -2 .. 2: s^2 = 10 / 4
    gain = paired_gain(dict.fromkeys(range(5), 0.0), dict(enumerate([1.0, 2, 3, 4, 5])))
    assert gain.half_width == pytest.approx(2.77645 * math.sqrt(2.5 / 5), rel=1e-5)


def test_equal_gains_have_an_interval_of_no_width() -> None:
    assert paired_gain({0: 1.0, 1: 2.0}, {0: 2.0, 1: 3.0}).half_width == 0


def test_gain_is_paired_by_seed() -> None:
    gain = paired_gain({0: 10.0, 1: 20.0, 2: 30.0}, {2: 33.0, 0: 11.0, 1: 22.0})
    assert gain.differences == {0: 1.0, 1: 2.0, 2: 3.0}
    assert gain.mean == pytest.approx(2.0)
    # seeds differ by far more than the gain; pairing takes that out
    assert gain.interval == pytest.approx((2 - 2.48414, 2 + 2.48414), rel=1e-5)


def test_gain_counts_common_seeds_only() -> None:
    gain = paired_gain({0: 10.0, 1: 20.0}, {1: 25.0, 2: 99.0})
    assert gain.differences == {1: 5.0}
    assert gain.half_width is None
    assert gain.interval is None
    assert paired_gain({0: 1.0}, {1: 2.0}) is None


def test_share() -> None:
    assert share_of(1.5, 6.0) == pytest.approx(0.25)
    assert share_of(-1.0, 4.0) == pytest.approx(-0.25)
    assert share_of(1.0, 0.0) is None
    assert share_of(1.0, -2.0) is None


def test_ranges_apart() -> None:
    assert ranges_apart([5.1, 6.0], [4.0, 5.0]) is True
    assert ranges_apart([5.0, 6.0], [4.0, 5.0]) is False  # they touch
    assert ranges_apart([4.5, 6.0], [4.0, 5.0]) is False
    assert ranges_apart([9.0], [1.0, 2.0]) is None  # a single value is no range

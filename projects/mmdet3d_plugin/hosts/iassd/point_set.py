"""Points of several clouds, one below the other: no cloud is padded, and one may be empty."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PointSet(NamedTuple):
    """Points of B clouds with their features.

    Args:
        places: (N, 3) x, y, z, metres, LiDAR frame, cloud by cloud.
        features: (N, C).
        counts: points of each cloud; B numbers that add up to N.
    """

    places: Tensor
    features: Tensor
    counts: tuple[int, ...]


def joined_clouds(clouds: Sequence[Tensor]) -> PointSet:
    """B clouds (N_i, 3 + C), x, y, z first, as one set."""
    rows = torch.cat(list(clouds))
    return PointSet(rows[:, :3].contiguous(), rows[:, 3:].contiguous(), tuple(len(cloud) for cloud in clouds))


def fewer(counts: Sequence[int], number: int) -> tuple[int, ...]:
    """How many of each cloud are left where ``number`` are wanted."""
    return tuple(min(count, number) for count in counts)

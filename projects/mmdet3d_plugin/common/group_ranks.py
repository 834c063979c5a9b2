"""Number the members of groups, without a loop over the groups."""

from typing import NamedTuple

import torch
from torch import Tensor


class GroupRanks(NamedTuple):
    """Which of its group each row is, (P,) from 0 on; and how many rows each group has, (groups,)."""

    rank: Tensor
    counts: Tensor


def group_ranks(group: Tensor, groups: int) -> GroupRanks:
    """Count the rows of each group in their order.

    Args:
        group: (P,) int64 group of each row, ascending.
        groups: how many there are; some may have no row.

    Example:
        >>> group_ranks(torch.tensor([0, 0, 2, 2, 2]), 4)
        GroupRanks(rank=tensor([0, 1, 0, 1, 2]), counts=tensor([2, 0, 3, 0]))
    """
    counts = torch.bincount(group, minlength=groups)
    first = counts.cumsum(0) - counts
    return GroupRanks(torch.arange(len(group), device=group.device) - first[group], counts)

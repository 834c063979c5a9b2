"""Furthest point sampling: points that cover a cloud evenly, however dense it is here and there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops.library import register_shape, serves


@torch.no_grad()
def furthest_points(points: Tensor, counts: Sequence[int], number: int) -> Tensor:
    """Choose points, each as far as can be from those chosen before (Qi et al., PointNet++, NeurIPS 2017).

    The first point of a cloud is chosen first; of equally far ones the first. No point is chosen twice, not even where
    others lie at the same place.

    Args:
        points: (N, 3) places of B clouds, one below the other, metres, float32 or float64.
        counts: points of each.
        number: points chosen of each cloud; all of one that has fewer.

    Returns:
        (M,) int64 rows of ``points``, cloud by cloud, in the order in which they were chosen; a constant.

    Example:
        >>> line = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [5.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
        >>> furthest_points(line, [4], 3)
        tensor([0, 2, 3])
    """
    if serves(points, 'furthest_points'):
        return torch.ops.focaldistiller.furthest_points(points, list(counts), number)
    starts = torch.tensor([0, *counts]).cumsum(0).tolist()
    chosen = [
        start + _of_cloud(cloud, min(number, len(cloud)))
        for start, cloud in zip(starts, points.split(list(counts)), strict=False)
    ]
    return torch.cat(chosen) if chosen else points.new_zeros(0, dtype=torch.long)


def _of_cloud(points: Tensor, number: int) -> Tensor:
    """In plain torch, (N, 3) -> (number,)."""
    nearest = points.new_full((len(points),), torch.inf)
    rows = torch.zeros(number, dtype=torch.long, device=points.device)
    row = rows.new_zeros(())
    for i in range(number):
        rows[i] = row
        nearest[row] = -1  # nearer than anything can be
        far = (points - points[row]).square().sum(1)
        nearest = torch.where(far < nearest, far, nearest)
        row = nearest.argmax()
    return rows


def _shape(points: Tensor, counts: Sequence[int], number: int) -> Tensor:
    return points.new_empty(sum(min(count, number) for count in counts), dtype=torch.long)


register_shape('furthest_points', _shape)

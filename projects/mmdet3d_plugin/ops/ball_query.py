"""Ball query: the points around others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops.library import register_shape, serves

_CHUNK_PAIRS = 2**21  # distances in memory at once


@torch.no_grad()
def ball_query(
    queries: Tensor,
    points: Tensor,
    query_counts: Sequence[int],
    point_counts: Sequence[int],
    radius: float,
    neighbours: int,
) -> Tensor:
    """The first points of a cloud that are nearer than a radius (Qi et al., PointNet++, NeurIPS 2017).

    Args:
        queries: (M, 3) places in B clouds, one below the other, metres, float32 or float64.
        points: (N, 3) of the same type.
        query_counts: queries of each cloud.
        point_counts: points of each cloud.
        radius: metres; a point at this distance is too far.
        neighbours: K.

    Returns:
        (M, K) int64 rows of ``points``, ascending, -1 where there are fewer; a constant. Equal on any number of threads.

    Example:
        >>> line = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [5.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
        >>> ball_query(line[1:2], line, [1], [4], radius=1.5, neighbours=4)
        tensor([[ 0,  1,  3, -1]])
    """
    if serves(queries, 'ball_query'):
        return torch.ops.focaldistiller.ball_query(
            queries, points, list(query_counts), list(point_counts), radius, neighbours
        )
    starts = torch.tensor([0, *point_counts]).cumsum(0).tolist()
    clouds = zip(queries.split(list(query_counts)), points.split(list(point_counts)), starts, strict=False)
    found = [_in_cloud(*cloud, radius, neighbours) for cloud in clouds]
    return torch.cat(found) if found else queries.new_zeros(0, neighbours, dtype=torch.long)


def _in_cloud(queries: Tensor, points: Tensor, start: int, radius: float, neighbours: int) -> Tensor:
    """In plain torch, (M, 3) and (N, 3) whose first row is ``start`` -> (M, neighbours)."""
    out = queries.new_full((len(queries), neighbours), -1, dtype=torch.long)
    limit = queries.new_tensor(radius).square()
    step = max(1, _CHUNK_PAIRS // max(1, len(points)))
    for first in range(0, len(queries), step):
        part = queries[first : first + step]
        near = sum((part[:, None, i] - points[:, i]).square() for i in range(3)) < limit
        rank = near.cumsum(1) - 1
        query, point = (near & (rank < neighbours)).nonzero(as_tuple=True)
        out[first + query, rank[query, point]] = start + point
    return out


def _shape(queries: Tensor, points: Tensor, *others: object) -> Tensor:
    return queries.new_empty(len(queries), others[-1], dtype=torch.long)


register_shape('ball_query', _shape)

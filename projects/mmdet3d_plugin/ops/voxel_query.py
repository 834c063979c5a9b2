"""Voxel query: the voxels around points, found through the grid instead of by comparing with all of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.group_ranks import group_ranks
from projects.mmdet3d_plugin.ops.library import register_shape, serves

_CHUNK_CELLS = 2**21  # cells looked up together, to bound memory


class CellGrid(NamedTuple):
    """Where cells lie.

    Args:
        shape: cells along z, y and x.
        origin: corner of the first cell, x, y, z in metres.
        size: of a cell along x, y and z, metres.
    """

    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    size: tuple[float, float, float]


@torch.no_grad()
def voxel_query(
    queries: Tensor,
    sample: Tensor,
    indices: Tensor,
    grid: CellGrid,
    samples: int,
    reach: int,
    radius: float,
    neighbours: int,
) -> Tensor:
    """The first voxels around points (Deng et al., Voxel R-CNN, AAAI 2021).

    Of the cells up to ``reach`` from a point's own along each axis, those that hold a voxel whose centre is within
    ``radius``; of these the first ``neighbours``, in ascending order of z, y and x, as the published code has it.

    Args:
        queries: (M, 3) x, y, z in metres, float32 or float64; they may lie beyond the grid.
        sample: (M,) int64 sample of each.
        indices: (V, 4) int32 sample, z, y and x of each voxel; no two are equal.
        grid: where the cells lie.
        samples: B.
        reach: cells, between 0 and 31.
        radius: metres.
        neighbours: K.

    Returns:
        (M, K) int64 rows of ``indices``, -1 where there are fewer; a constant. Equal on any number of threads.

    Example:
        >>> grid = CellGrid(shape=(1, 4, 4), origin=(0.0, 0.0, 0.0), size=(1.0, 1.0, 1.0))
        >>> voxels = torch.tensor([[0, 0, 3, 3], [0, 0, 1, 2], [0, 0, 0, 0]], dtype=torch.int32)
        >>> place, sample = torch.tensor([[1.5, 1.5, 0.5]]), torch.tensor([0])
        >>> voxel_query(place, sample, voxels, grid, samples=1, reach=1, radius=2.0, neighbours=3)
        tensor([[ 2,  1, -1]])
    """
    if serves(queries, 'voxel_query'):
        return torch.ops.focaldistiller.voxel_query(
            queries, sample, indices, *map(list, grid), samples, reach, radius, neighbours
        )
    return _by_table(queries, sample, indices, grid, samples, reach, radius, neighbours)


def _by_table(
    queries: Tensor,
    sample: Tensor,
    indices: Tensor,
    grid: CellGrid,
    samples: int,
    reach: int,
    radius: float,
    neighbours: int,
) -> Tensor:
    """In plain torch: a dense table of cells, int32, in which all offsets are looked up."""
    depth, height, width = grid.shape
    table = indices.new_full((samples, depth, height, width), -1)
    table[tuple(indices.long().unbind(1))] = torch.arange(len(indices), device=indices.device).to(indices)
    size, origin = queries.new_tensor(grid.size), queries.new_tensor(grid.origin)
    offsets = _offsets(grid, reach, radius).to(queries.device)
    out = sample.new_full((len(queries), neighbours), -1)
    step = max(1, _CHUNK_CELLS // len(offsets))
    limits = offsets.new_tensor([width, height, depth])
    for start in range(0, len(queries), step):
        place = queries[start : start + step]
        cell = ((place - origin) / size).floor().long()[:, None] + offsets
        x, y, z = ((cell + 0.5) * size + origin - place[:, None]).square().unbind(2)
        inside = ((cell >= 0) & (cell < limits)).all(2) & (z + y + x <= place.new_tensor(radius).square())
        query, which = inside.nonzero(as_tuple=True)
        column, row, layer = cell[query, which].unbind(1)
        voxel = table[sample[start : start + step][query], layer, row, column]
        query, voxel = query[voxel >= 0], voxel[voxel >= 0]
        rank, _ = group_ranks(query, len(place))
        first = rank < neighbours
        out[start + query[first], rank[first]] = voxel[first].to(out)
    return out


def _offsets(grid: CellGrid, reach: int, radius: float) -> Tensor:
    """(n, 3) x, y, z of the offsets that may be near enough for some point of a cell, in ascending order of z, y, x."""
    steps = torch.arange(-reach, reach + 1)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing='ij')
    offsets = torch.stack([x, y, z], 3).view(-1, 3)
    least = (offsets.abs() - 0.5).clamp(min=0).double() * torch.tensor(grid.size, dtype=torch.float64)
    return offsets[least.norm(dim=1) <= radius * (1 + 1e-5) + 1e-6]


def _shape(queries: Tensor, sample: Tensor, *others: object) -> Tensor:
    return sample.new_empty(len(queries), others[-1])


register_shape('voxel_query', _shape)

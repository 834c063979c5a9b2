"""Voxel query: the kernel, its twin in torch, and the definition."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.voxel_query import CellGrid, voxel_query

GRID = CellGrid((5, 9, 70), (-1.0, 2.0, 0.5), (0.3, 0.2, 0.4))
LIMITS = [(4, 0.8, 16), (1, 0.5, 3), (4, 9.0, 40), (0, 1.0, 2), (9, 2.5, 8)]
compiled = pytest.mark.skipif(
    not library.serves(torch.empty(0), 'voxel_query'), reason='no compiler, so there is no kernel'
)


def crowd(
    seed: int, voxels: int = 900, points: int = 100, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, ...]:
    """Points in and around a grid of two samples (M, 3), their samples, and voxels (V, 4) in any order."""
    rng = np.random.default_rng(seed)
    cells = np.stack(np.unravel_index(rng.permutation(2 * 5 * 9 * 70)[:voxels], (2, *GRID.shape)), 1)
    places = rng.uniform([-3, 1, -0.5], [22, 5, 3.5], (points, 3))
    sample = torch.from_numpy(rng.integers(0, 2, points))
    return torch.tensor(places, dtype=dtype), sample, torch.tensor(cells, dtype=torch.int32)


def by_definition(
    places: Tensor, sample: Tensor, indices: Tensor, reach: int, radius: float, most: int
) -> Tensor:
    """Every voxel is asked, in float64."""
    rows = indices.double().numpy()
    centers = (rows[:, [3, 2, 1]] + 0.5) * GRID.size + GRID.origin
    order = np.lexsort((rows[:, 3], rows[:, 2], rows[:, 1]))
    out = np.full((len(places), most), -1)
    for m, place in enumerate(places.double().numpy()):
        cell = np.floor((place - GRID.origin) / GRID.size)
        near = np.linalg.norm(centers - place, axis=1) <= radius
        near &= (abs(rows[:, [3, 2, 1]] - cell) <= reach).all(1) & (rows[:, 0] == int(sample[m]))
        first = order[near[order]][:most]
        out[m, : len(first)] = first
    return torch.from_numpy(out)


@pytest.mark.parametrize('limits', LIMITS, ids=str)
@pytest.mark.parametrize('kernel', [pytest.param(True, marks=compiled), False], ids=['kernel', 'torch'])
def test_it_finds_what_the_definition_says(kernel: bool, limits: tuple) -> None:
    places, sample, indices = crowd(0)
    wanted = by_definition(places, sample, indices, *limits)
    assert (wanted >= 0).any()
    args = GRID, 2, *limits
    if kernel:
        found = [voxel_query(places, sample, indices, *args)]
    else:
        with library.pure_torch():
            found = [voxel_query(places, sample, indices, *args)]
    found.append(voxel_query(places.float(), sample, indices, *args))
    for one in found:
        assert torch.equal(one, wanted)


@compiled
def test_any_number_of_threads_finds_the_same() -> None:
    places, sample, indices = crowd(1, points=3000)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(voxel_query(places, sample, indices, GRID, 2, 4, 0.8, 16))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize('kernel', [pytest.param(True, marks=compiled), False], ids=['kernel', 'torch'])
def test_nothing_to_ask_and_nothing_to_find(kernel: bool) -> None:
    places, sample, indices = crowd(2)

    def run(*inputs: Tensor) -> Tensor:
        if kernel:
            return voxel_query(*inputs, GRID, 2, 4, 0.8, 16)
        with library.pure_torch():
            return voxel_query(*inputs, GRID, 2, 4, 0.8, 16)

    assert run(places[:0], sample[:0], indices).shape == (0, 16)
    assert (run(places, sample, indices[:0]) == -1).all()
    assert (run(places + 1e6, sample, indices) == -1).all()
    # two samples are twice one
    both = run(places, sample, indices)
    for one in (0, 1):
        mine = indices[:, 0] == one
        rows = mine.nonzero().squeeze(1)
        alone = run(places[sample == one], sample[sample == one], indices[mine])
        alone = torch.where(alone >= 0, rows[alone.clamp(min=0)], -1)
        assert torch.equal(both[sample == one], alone)


@compiled
def test_the_kernel_says_what_does_not_fit() -> None:
    places, sample, indices = crowd(3)
    with pytest.raises(RuntimeError, match='voxel 0 lies outside the grid'):
        voxel_query(places, sample, indices + 100, GRID, 2, 4, 0.8, 16)
    with pytest.raises(RuntimeError, match='voxel 900 lies in the cell of another'):
        voxel_query(places, sample, torch.cat([indices, indices[:1]]), GRID, 2, 4, 0.8, 16)
    with pytest.raises(RuntimeError, match='reach must lie between 0 and 31, got 40'):
        voxel_query(places, sample, indices, GRID, 2, 40, 0.8, 16)
    with pytest.raises(RuntimeError, match='belongs to no sample'):
        voxel_query(places, sample + 2, indices, GRID, 2, 4, 0.8, 16)
    with pytest.raises(RuntimeError, match=r'indices must be \(V, 4\) int32'):
        voxel_query(places, sample, indices.long(), GRID, 2, 4, 0.8, 16)


@compiled
def test_shapes_are_known_without_values() -> None:
    with FakeTensorMode() as mode:
        inputs = [mode.from_tensor(tensor) for tensor in crowd(4)]
        assert voxel_query(*inputs, GRID, 2, 4, 0.8, 16).shape == (100, 16)

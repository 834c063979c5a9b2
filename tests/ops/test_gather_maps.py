"""Weighted look-ups in levels of feature maps: against grid_sample in float64, both paths, and what backward shares."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.gather_maps import FeatureMaps, gather_maps

SHAPES = ((7, 9), (4, 5), (2, 3))
MAPS, ROWS = 4, 11


@pytest.fixture(params=['compiled', 'torch'], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs with the compiled kernels and in plain torch."""
    if request.param == 'compiled' and not library.serves(torch.empty(0), 'gather_maps'):
        pytest.skip('no compiler: the operators are not built')
    with library.pure_torch() if request.param == 'torch' else nullcontext():
        yield


def random_inputs(
    channels: int = 20, pairs: int = 30, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    """Levels, locations that reach outside, weights, maps and rows; some rows have no pair."""
    torch.manual_seed(0)
    levels = [torch.randn(MAPS, channels, *shape, dtype=dtype) for shape in SHAPES]
    locations = torch.rand(pairs, 2, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(pairs, len(SHAPES), dtype=dtype)
    rows = torch.randint(1, ROWS - 1, (pairs,)).sort().values
    return levels, locations, weights, torch.randint(MAPS, (pairs,)), rows


def looked_up(levels: list[Tensor], *rest: Tensor) -> Tensor:
    return gather_maps(FeatureMaps(levels), *rest, ROWS)


def by_grid_sample(
    levels: list[Tensor], locations: Tensor, weights: Tensor, maps: Tensor, rows: Tensor
) -> Tensor:
    """One pair after the other."""
    out = [levels[0].new_zeros(levels[0].shape[1]) for _ in range(ROWS)]
    for k, row in enumerate(rows.tolist()):
        for level, share in zip(levels, weights[k], strict=True):
            grid = (locations[k] * 2 - 1).view(1, 1, 1, 2)
            seen = F.grid_sample(level[maps[k] : maps[k] + 1], grid, align_corners=False)
            out[row] = out[row] + share * seen.flatten()
    return torch.stack(out)


def test_values_and_gradients_equal_grid_sample() -> None:
    levels, locations, weights, maps, rows = random_inputs()
    leaves = [t.requires_grad_() for t in (*levels, locations, weights)]
    ours = looked_up(levels, locations, weights, maps, rows)
    reference = by_grid_sample(levels, locations, weights, maps, rows)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)
    grad = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad(ours, leaves, grad), torch.autograd.grad(reference, leaves, grad), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


def test_gradcheck() -> None:
    levels, locations, weights, maps, rows = random_inputs(channels=3, pairs=5)
    leaves = [t.requires_grad_() for t in (*levels, locations, weights)]
    assert torch.autograd.gradcheck(
        lambda a, b, c, x, w: looked_up([a, b, c], x, w, maps, rows), leaves, fast_mode=True
    )


def test_float32_is_near_float64() -> None:
    levels, *rest = random_inputs(channels=64)
    exact = looked_up(levels, *rest)
    near = looked_up([level.float() for level in levels], rest[0].float(), rest[1].float(), *rest[2:])
    assert near.dtype == torch.float32
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=1e-5)
    half = looked_up([level.bfloat16() for level in levels], *rest)
    assert half.dtype == torch.float32


def test_no_pair_and_no_row() -> None:
    levels, locations, weights, maps, rows = random_inputs()
    levels[0].requires_grad_()
    none = looked_up(levels, locations[:0], weights[:0], maps[:0], rows[:0])
    assert none.shape == (ROWS, 20)
    assert not none.any()
    none.sum().backward()
    assert not levels[0].grad.any()
    empty = gather_maps(FeatureMaps(levels), locations[:0], weights[:0], maps[:0], rows[:0], 0)
    assert empty.shape == (0, 20)


def test_locations_that_are_no_numbers_add_nothing() -> None:
    levels, locations, weights, maps, rows = random_inputs()
    broken = locations.clone()
    broken[3], broken[4] = float('nan'), float('inf')
    weights[3:5] = 0.0
    torch.testing.assert_close(
        looked_up(levels, broken, weights, maps, rows), looked_up(levels, locations, weights, maps, rows)
    )


def test_layout_of_the_maps_does_not_matter() -> None:
    levels, *rest = random_inputs()
    turned = [level.contiguous(memory_format=torch.channels_last) for level in levels]
    assert torch.equal(looked_up(levels, *rest), looked_up(turned, *rest))


def test_all_look_ups_add_to_one_gradient() -> None:
    """Two layers on one set of maps, backward twice, and a backward that ends before the maps in between."""
    levels, locations, weights, maps, rows = random_inputs()
    levels = [level.requires_grad_() for level in levels]
    weights.requires_grad_()
    shared = FeatureMaps(levels)
    first = gather_maps(shared, locations, weights, maps, rows, ROWS)
    total = (first + gather_maps(shared, 1 - locations, weights, maps, rows, ROWS)).sin().sum()
    reference = by_grid_sample(levels, locations, weights, maps, rows)
    reference = (reference + by_grid_sample(levels, 1 - locations, weights, maps, rows)).sin().sum()
    expected = torch.autograd.grad(reference, levels)
    for _ in range(2):
        torch.autograd.grad(total, [weights], retain_graph=True)
        found = torch.autograd.grad(total, levels, retain_graph=True)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    levels, locations, weights, maps, rows = random_inputs(channels=200, pairs=300, dtype=torch.float32)
    leaves = [t.requires_grad_() for t in (*levels, locations, weights)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            out = looked_up(levels, locations, weights, maps, rows)
            results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    finally:
        torch.set_num_threads(before)
    if library.serves(torch.empty(0), 'gather_maps'):
        assert all(torch.equal(one, many) for one, many in zip(*results, strict=True))


def test_batch_of_two_equals_two_of_one() -> None:
    levels, locations, weights, maps, rows = random_inputs()
    first = rows < ROWS // 2
    both = looked_up(levels, locations, weights, maps, rows)
    parts = [
        looked_up(levels, locations[part], weights[part], maps[part], rows[part]) for part in (first, ~first)
    ]
    assert torch.equal(both, sum(parts))


def test_wrong_shapes_are_clear() -> None:
    levels, locations, weights, maps, rows = random_inputs()
    with pytest.raises(ValueError, match='levels must be L tensors'):
        FeatureMaps([levels[0], levels[1][:1]])
    with pytest.raises(ValueError, match=r'weights must be of shape \(30, 3\)'):
        looked_up(levels, locations, weights[:, :1], maps, rows)

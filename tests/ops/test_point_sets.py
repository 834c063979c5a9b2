"""Furthest points and ball query: the kernels, their twins in torch, and the definitions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.ball_query import ball_query
from projects.mmdet3d_plugin.ops.furthest_points import furthest_points

COUNTS = (150, 0, 61)
compiled = pytest.mark.skipif(
    not library.serves(torch.empty(0), 'ball_query'), reason='no compiler, so there is no kernel'
)
ways = pytest.mark.parametrize('kernel', [pytest.param(True, marks=compiled), False], ids=['kernel', 'torch'])


def run(kernel: bool, function: Callable[..., Tensor], *inputs: object) -> Tensor:
    if kernel:
        return function(*inputs)
    with library.pure_torch():
        return function(*inputs)


def clouds(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points (211, 3) of three clouds, one of them empty."""
    places = np.random.default_rng(seed).uniform([0, -8, -2], [16, 8, 1], (sum(COUNTS), 3))
    return torch.tensor(places, dtype=dtype)


def furthest_by_definition(cloud: np.ndarray, number: int) -> list[int]:
    """Every distance anew, in float64."""
    chosen = [0]
    while len(chosen) < number:
        gaps = np.linalg.norm(cloud[:, None] - cloud[chosen], axis=2).min(1)
        gaps[chosen] = -1
        chosen.append(int(gaps.argmax()))
    return chosen


@pytest.mark.parametrize(
    'isa', [pytest.param(isa, marks=compiled) for isa in ('baseline', 'avx2', 'avx512')] + [None]
)
def test_they_find_what_the_definitions_say(isa: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = isa is not None
    monkeypatch.setenv('FOCALDISTILLER_ISA', isa or '')
    points, queries = clouds(), clouds(1)[:80]
    rows = [
        np.array(furthest_by_definition(part.numpy(), min(70, len(part))))
        for part in (points[:150], points[150:])
    ]
    chosen = np.concatenate([rows[0], 150 + rows[1]])
    asked, near = (50, 10, 20), []
    for query, cloud in zip(range(80), [0] * 50 + [1] * 10 + [2] * 20, strict=True):
        first, last = sum(COUNTS[:cloud]), sum(COUNTS[: cloud + 1])
        gap = np.linalg.norm(points[first:last].numpy() - queries[query].numpy(), axis=1)
        found = (first + np.flatnonzero(gap < 3.0))[:6].tolist()
        near.append(found + [-1] * (6 - len(found)))
    assert -1 in near[0] + near[-1]
    assert any(row[-1] >= 0 for row in near)
    for dtype in (torch.float64, torch.float32):
        given = points.to(dtype)
        assert run(kernel, furthest_points, given, COUNTS, 70).tolist() == chosen.tolist()
        assert run(kernel, ball_query, queries.to(dtype), given, asked, COUNTS, 3.0, 6).tolist() == near


@ways
def test_two_clouds_are_twice_one_and_nothing_is_nothing(kernel: bool) -> None:
    points = clouds(2)
    both = run(kernel, furthest_points, points, COUNTS, 40)
    alone = [run(kernel, furthest_points, part, [len(part)], 40) for part in points.split(COUNTS)]
    assert torch.equal(both, torch.cat([alone[0], 150 + alone[2]]))
    for counts in ((), (0,), (0, 0)):
        assert run(kernel, furthest_points, points[:0], counts, 5).shape == (0,)
        assert run(kernel, ball_query, points[:0], points[:0], counts, counts, 1.0, 4).shape == (0, 4)
    assert run(kernel, furthest_points, points, COUNTS, 0).shape == (0,)
    assert (run(kernel, ball_query, points + 1e6, points, COUNTS, COUNTS, 1.0, 4) == -1).all()
    assert (run(kernel, ball_query, points, points[:0], COUNTS, (0, 0, 0), 1.0, 4) == -1).all()


@ways
def test_no_point_is_chosen_twice_where_all_lie_at_one_place(kernel: bool) -> None:
    points = torch.ones(40, 3)
    points[20] = 2
    chosen = run(kernel, furthest_points, points, [40], 40).tolist()
    assert chosen[:3] == [0, 20, 1]
    assert sorted(chosen) == list(range(40))


@compiled
def test_any_number_of_threads_finds_the_same() -> None:
    points, before, found = clouds(3), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(
                (furthest_points(points, COUNTS, 50), ball_query(points, points, COUNTS, COUNTS, 2.0, 8))
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@compiled
def test_the_kernels_say_what_does_not_fit() -> None:
    points = clouds()
    with pytest.raises(RuntimeError, match='counts of points add up to 5, not to 211'):
        furthest_points(points, [5], 3)
    with pytest.raises(RuntimeError, match=r'points must be \(N, 3\)'):
        furthest_points(points[:, :2], COUNTS, 3)
    with pytest.raises(RuntimeError, match='queries are Float but points Double'):
        ball_query(points.float(), points, COUNTS, COUNTS, 1.0, 4)
    with pytest.raises(RuntimeError, match='queries of 1 clouds and points of 3'):
        ball_query(points, points, [211], COUNTS, 1.0, 4)


@compiled
def test_shapes_are_known_without_values() -> None:
    with FakeTensorMode() as mode:
        points = mode.from_tensor(clouds())
        assert furthest_points(points, COUNTS, 70).shape == (131,)
        assert ball_query(points, points, COUNTS, COUNTS, 1.0, 4).shape == (211, 4)

"""Operators give on CUDA, mostly by plain torch, what they give on the CPU."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from projects.mmdet3d_plugin.ops.ball_query import ball_query
from projects.mmdet3d_plugin.ops.channel_wise_kl import channel_wise_kl
from projects.mmdet3d_plugin.ops.furthest_points import furthest_points
from projects.mmdet3d_plugin.ops.knn import nearest_rows
from projects.mmdet3d_plugin.ops.linear import linear
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2
from projects.mmdet3d_plugin.ops.voxel_query import voxel_query
from tests.ops.test_gather_maps import looked_up, random_inputs
from tests.ops.test_point_sets import COUNTS, clouds
from tests.ops.test_voxel_query import GRID, LIMITS, crowd

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
]


class Case(NamedTuple):
    """A call in float64; floating tensors among its arguments that ``learns`` names by place get gradients."""

    call: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    learns: tuple[int, ...] = ()


def cases() -> dict[str, Case]:
    torch.manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    maps, weight = (rand(2, 6, 9, 11), rand(2, 6, 9, 11)), rand(2, 1, 9, 11).abs()
    places, sample, indices = crowd(0)
    levels, *rest = random_inputs()
    return {
        'channel_wise_kl': Case(channel_wise_kl, (*maps, 2.0), (0,)),
        'masked_l2': Case(masked_l2, (*maps, weight), (0,)),
        'linear': Case(linear, (rand(300, 64), rand(128, 64), rand(128)), (0, 1, 2)),
        'nearest_rows': Case(nearest_rows, (rand(200, 8), torch.arange(0, 200, 7), 5)),
        'furthest_points': Case(furthest_points, (clouds(), COUNTS, 70)),
        'ball_query': Case(ball_query, (clouds(1)[:80], clouds(), (50, 10, 20), COUNTS, 3.0, 6)),
        'voxel_query': Case(voxel_query, (places, sample, indices, GRID, 2, *LIMITS[0])),
        'gather_maps': Case(
            lambda *args: looked_up(args[:-4], *args[-4:]), (*levels, *rest), (0, 1, len(levels))
        ),
    }


def run(case: Case, device: str) -> list[Tensor]:
    arguments = tree_map_only(Tensor, lambda x: x.to(device), list(case.arguments))
    for place in case.learns:
        arguments[place].requires_grad_()
    out = case.call(*arguments)
    if not case.learns:
        return [out.cpu()]
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape).to(device)
    grads = torch.autograd.grad((out * weights).sum(), [arguments[place] for place in case.learns])
    return [x.detach().cpu() for x in (out, *grads)]


@pytest.mark.parametrize('name', cases())
def test_cuda_gives_what_the_cpu_gives(name: str) -> None:
    case = cases()[name]
    for ours, reference in zip(run(case, 'cuda'), run(case, 'cpu'), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-11)

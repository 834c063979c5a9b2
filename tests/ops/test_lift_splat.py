"""Lift-splat pooling against a loop over points in float64."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.lift_splat import lift_cells, lift_splat, lift_splat_torch

needs_operator = pytest.mark.skipif(
    not library.serves(torch.empty(0), 'lift_splat'), reason='no compiler: the operators are not built'
)
SIZE = (9, 7)


class Case(NamedTuple):
    """Two samples of three cameras that turn around a grid, rolled so that rows of one column meet other cells."""

    depth: Tensor
    context: Tensor
    origin: Tensor
    ray: Tensor
    bins: Tensor

    @property
    def where(self) -> tuple[Tensor, Tensor, Tensor]:
        """Origin, ray and bins."""
        return self.origin, self.ray, self.bins


def make_case(
    dtype: torch.dtype = torch.float64, channels: int = 19, rows: int = 18, roll: float = 0.3
) -> Case:
    """Inputs at toy sizes; with 18 rows and 17 columns there is more than one tile, with 19 channels a rest."""
    torch.manual_seed(0)
    batch, views, bins, columns = 2, 3, 11, 17
    across, down = torch.meshgrid(
        torch.linspace(-0.6, 0.6, columns), torch.linspace(-0.5, 0.5, rows), indexing='xy'
    )
    turned = across * math.cos(roll) - down * math.sin(roll), across * math.sin(roll) + down * math.cos(roll)
    local = torch.stack([torch.ones_like(across), turned[0], turned[1] * 0.2], -1).double()
    rays = []
    for angle in torch.arange(batch * views).double():
        turn = torch.eye(3, dtype=torch.float64)
        turn[:2, :2] = torch.tensor(
            [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], dtype=torch.float64
        )
        rays.append(local @ turn.T)
    depth = torch.rand(batch * views, bins, rows, columns, dtype=torch.float64).softmax(1)
    context = torch.randn(batch * views, channels, rows, columns, dtype=torch.float64)
    origin = torch.tensor([3.3, 4.2, 0.4]).double().expand(batch, views, 3).contiguous()
    ray = torch.stack(rays).view(batch, views, rows, columns, 3)
    return Case(depth.to(dtype), context.to(dtype), origin, ray, torch.linspace(0.2, 6, bins).double())


def loop(case: Case, truncate: bool = False) -> Tensor:
    """Every point by itself, as the equations read: (B, C, H, W)."""
    depth, context, origin, ray, bins = (x.double().numpy() for x in case)
    views, (h, w) = origin.shape[1], SIZE
    bev = np.zeros((len(origin), context.shape[1], h, w))
    for n, k, v, u in np.ndindex(*depth.shape):
        sample, view = divmod(n, views)
        x, y, z = (
            int(p) if truncate else math.floor(p)
            for p in origin[sample, view] + bins[k] * ray[sample, view, v, u]
        )
        if 0 <= x < w and 0 <= y < h and z == 0:
            bev[sample, :, y, x] += depth[n, k, v, u] * context[n, :, v, u]
    return torch.from_numpy(bev)


def run(function: object, case: Case, **kwargs: object) -> list[Tensor]:
    """BEV and the gradients of depth and context under a fixed weighting."""
    depth, context = (x.detach().clone().requires_grad_() for x in case[:2])
    bev = function(depth, context, *case.where, SIZE, **kwargs)
    torch.manual_seed(1)
    (bev * torch.randn(bev.shape, dtype=torch.float64).to(bev)).sum().backward()
    return [bev.detach(), depth.grad, context.grad]


@pytest.fixture(scope='module')
def looped() -> dict[bool, Tensor]:
    """The loop's result with and without truncation."""
    return {truncate: loop(make_case(), truncate) for truncate in (False, True)}


@pytest.mark.parametrize('truncate', [False, True])
@pytest.mark.parametrize('function', [lift_splat, lift_splat_torch])
def test_equals_a_loop_over_points(looped: dict[bool, Tensor], function: object, truncate: bool) -> None:
    bev = run(function, make_case(), truncate=truncate)[0]
    torch.testing.assert_close(bev, looped[truncate], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(looped[False], looped[True])  # the switch matters on this case


@needs_operator
@pytest.mark.parametrize('truncate', [False, True])
@pytest.mark.parametrize(('rows', 'roll'), [(18, 0.3), (4, 0.0), (16, 0.0)])
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_gradients_equal_plain_torch(
    rows: int, roll: float, truncate: bool, dtype: torch.dtype, bound: float
) -> None:
    case = make_case(dtype, rows=rows, roll=roll)
    reference = Case(case.depth.double(), case.context.double(), *case.where)
    for mine, other in zip(
        run(lift_splat, case, truncate=truncate),
        run(lift_splat_torch, reference, truncate=truncate),
        strict=True,
    ):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.double(), other, rtol=bound, atol=10 * bound)


@needs_operator
@pytest.mark.parametrize('isa', ['baseline', 'avx2'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_every_instruction_set(isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(dtype)
    expected = run(lift_splat_torch, case)
    monkeypatch.setenv('FOCALDISTILLER_ISA', isa)
    for mine, other in zip(run(lift_splat, case), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@needs_operator
def test_bitwise_equal_for_any_number_of_threads_and_twice() -> None:
    before, results = torch.get_num_threads(), []
    case = make_case(torch.float32, channels=80)
    try:
        for threads in (1, 2, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(lift_splat, case))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@needs_operator
def test_any_memory_layout_gives_the_same_bits() -> None:
    case = make_case(torch.float32)
    layout = torch.channels_last
    other = Case(
        case.depth.contiguous(memory_format=layout),
        case.context.contiguous(memory_format=layout),
        *case.where,
    )
    assert all(map(torch.equal, run(lift_splat, case), run(lift_splat, other)))


@pytest.mark.parametrize('function', [lift_splat, lift_splat_torch])
def test_a_batch_of_two_equals_two_of_one(function: object) -> None:
    case = make_case()
    both = function(*case, SIZE)
    views = case.origin.shape[1]
    for i in range(2):
        own = slice(i * views, (i + 1) * views)
        one = function(
            case.depth[own],
            case.context[own],
            case.origin[i : i + 1],
            case.ray[i : i + 1],
            case.bins,
            SIZE,
        )
        torch.testing.assert_close(one[0], both[i], rtol=0, atol=0)


@needs_operator
def test_gradcheck_and_opcheck() -> None:
    case = make_case(channels=3, rows=2)
    part = [x[:1, :4, :, 5:8].contiguous().requires_grad_() for x in case[:2]]
    where = case.origin[:1, :1], case.ray[:1, :1, :, 5:8].contiguous(), case.bins[:4]
    assert torch.autograd.gradcheck(lambda d, c: lift_splat(d, c, *where, SIZE), part)
    torch.library.opcheck(
        torch.ops.focaldistiller.lift_splat,
        (*part, *where, *SIZE, False),
        test_utils=('test_schema', 'test_faketensor'),
    )


@pytest.mark.parametrize('function', [lift_splat, lift_splat_torch])
def test_nothing_to_pool_is_an_exact_zero_with_a_live_graph(function: object) -> None:
    case = make_case()
    far = case._replace(origin=case.origin + 1000)
    bev, grad_depth, grad_context = run(function, far)
    assert not any(x.any() for x in (bev, grad_depth, grad_context))
    none = Case(case.depth[:0], case.context[:0], case.origin[:0], case.ray[:0], case.bins)
    assert function(*none, SIZE).shape == (0, 19, *SIZE)
    blind = Case(case.depth[:0], case.context[:0], case.origin[:, :0], case.ray[:, :0], case.bins)
    assert not function(*blind, SIZE).any()


def test_half_precision_is_summed_in_float32() -> None:
    case = make_case(torch.bfloat16)
    bev = lift_splat(*case, SIZE)
    expected = lift_splat(case.depth.float(), case.context.float(), *case.where, SIZE)
    assert bev.dtype == torch.bfloat16
    torch.testing.assert_close(bev, expected.bfloat16(), rtol=0, atol=0)


def test_borders_belong_to_the_cell_above_them() -> None:
    x = torch.tensor([-1.0, -0.5, 0.0, 0.999, 1.0, 6.5, 7.0]).double()
    where = x.new_tensor([[[0.0, 0.5, 0.5]]]), x.new_tensor([1.0, 0, 0]).view(1, 1, 1, 1, 3), x
    assert lift_cells(*where, SIZE).flatten().tolist() == [-1, -1, 0, 0, 1, 6, -1]
    assert lift_cells(*where, SIZE, truncate=True).flatten().tolist() == [-1, 0, 0, 0, 1, 6, -1]
    depth, context = torch.rand(1, 7, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for truncate in (False, True):
        ours = lift_splat(depth, context, *where, SIZE, truncate)
        torch.testing.assert_close(ours, lift_splat_torch(depth, context, *where, SIZE, truncate))


@pytest.mark.parametrize(
    ('change', 'culprit'),
    [
        ({'context': torch.zeros(6, 19, 18, 16)}, 'context'),
        ({'origin': torch.zeros(2, 2, 3)}, 'origin'),
        ({'ray': torch.zeros(2, 3, 18, 16, 3)}, 'ray'),
        ({'bins': torch.zeros(10)}, 'bins'),
    ],
)
def test_wrong_inputs_name_the_argument(change: dict[str, Tensor], culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        lift_splat(*make_case()._replace(**change), SIZE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('truncate', [False, True])
@pytest.mark.parametrize('channels', [3, 80, 140])
@pytest.mark.parametrize(('rows', 'roll'), [(18, 0.3), (4, 0.0)])
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_cuda_equals_plain_torch_in_float64(
    rows: int, roll: float, channels: int, truncate: bool, dtype: torch.dtype, bound: float
) -> None:
    assert library.serves(torch.empty(0, device='cuda'), 'lift_splat'), 'a GPU is here but no CUDA kernels'
    case = make_case(dtype, channels, rows, roll)
    reference = Case(case.depth.double(), case.context.double(), *case.where)
    ours = run(lift_splat, Case(*(x.cuda() for x in case)), truncate=truncate)
    for mine, other in zip(ours, run(lift_splat_torch, reference, truncate=truncate), strict=True):
        torch.testing.assert_close(mine.cpu().double(), other, rtol=bound, atol=10 * bound)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda_has_the_gradient_and_takes_nothing_for_nothing() -> None:
    case = Case(*(x.cuda() for x in make_case(channels=3, rows=2)))
    part = [x[:1, :4, :, 5:8].contiguous().requires_grad_() for x in case[:2]]
    where = case.origin[:1, :1], case.ray[:1, :1, :, 5:8].contiguous(), case.bins[:4]
    assert torch.autograd.gradcheck(lambda d, c: lift_splat(d, c, *where, SIZE), part, nondet_tol=1e-12)
    assert not any(x.any() for x in run(lift_splat, case._replace(origin=case.origin + 1000)))
    none = Case(case.depth[:0], case.context[:0], case.origin[:0], case.ray[:0], case.bins)
    assert lift_splat(*none, SIZE).shape == (0, 3, *SIZE)

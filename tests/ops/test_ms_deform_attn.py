"""The attention doors against the float64 reference in plain torch, and against torch's own rules for operators."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.ms_deform_attn import (
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_packed,
)
from projects.mmdet3d_plugin.ops.ms_deform_attn_torch import (
    ms_deform_attn_fused_torch,
    ms_deform_attn_packed_torch,
    ms_deform_attn_torch,
    sampling_locations,
)

pytestmark = pytest.mark.skipif(
    not library.serves(torch.empty(0)), reason='no compiler: the operators are not built'
)

# levels, queries, heads, channels, points, reference points per query
CASES = {
    'one level': ([(9, 11)], 60, 3, 32, 4, 1),
    'pyramid': ([(9, 11), (5, 6)], 333, 2, 32, 8, 4),
    'few queries, direct gather': ([(40, 30)], 7, 4, 32, 4, 2),
    'many queries, ordered by tile': ([(40, 50)], 1500, 2, 16, 4, 1),
    'odd channels': ([(6, 5), (3, 3)], 77, 3, 20, 3, 2),
    'three points, two references': ([(6, 5)], 30, 1, 8, 3, 2),
    'wide heads': ([(7, 7)], 40, 1, 256, 4, 1),
    'as many points as a block holds': ([(7, 9), (4, 4)], 5, 2, 8, 128, 1),
}


class Door(NamedTuple):
    call: Callable
    reference: Callable
    inputs: tuple[Tensor, ...]  # value, then what is differentiable
    rest: tuple[Tensor, ...]


def make_door(name: str, case: str, dtype: torch.dtype, batch: int = 2) -> tuple[list[tuple[int, int]], Door]:
    """Random inputs of one door; reference points reach outside of the map."""
    shapes, queries, heads, channels, points, references = CASES[case]
    torch.manual_seed(0)
    cells, levels = sum(h * w for h, w in shapes), len(shapes)
    value = torch.randn(batch, cells, heads, channels, dtype=dtype)
    offsets = 3 * torch.randn(batch, queries, heads, levels, points, 2, dtype=dtype)
    logits = torch.randn(batch, queries, heads, levels * points, dtype=dtype)
    anchors = torch.rand(batch, queries, references, 2, dtype=dtype) * 1.4 - 0.2
    if name == 'fused':
        return shapes, Door(
            ms_deform_attn_fused, ms_deform_attn_fused_torch, (value, offsets, logits, anchors), ()
        )
    if name == 'plain':
        locations = sampling_locations(shapes, offsets, anchors)
        weights = torch.rand_like(locations[..., 0])
        return shapes, Door(ms_deform_attn, ms_deform_attn_torch, (value, locations, weights), ())
    value = torch.randn(3 * batch, cells, heads, channels, dtype=dtype)
    pair_value, pair_query = make_pairs(batch, 3, queries)
    anchors = torch.rand(len(pair_value), references, 2, dtype=dtype) * 1.4 - 0.2
    inputs = (value, offsets, logits, anchors)
    return shapes, Door(ms_deform_attn_packed, ms_deform_attn_packed_torch, inputs, (pair_value, pair_query))


def make_pairs(batch: int, cameras: int, queries: int) -> tuple[Tensor, Tensor]:
    """Every camera but the last of every sample sees a random two thirds of the queries."""
    seen = torch.rand(batch, cameras, queries) < 0.66
    seen[:, -1] = False
    sample, camera, query = seen.nonzero().unbind(1)
    return sample * cameras + camera, sample * queries + query


def run(
    function: Callable, shapes: list, door: Door, inputs: tuple[Tensor, ...], grad: Tensor | None
) -> list[Tensor]:
    """Output and gradients of one call."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(leaves[0], shapes, *leaves[1:], *door.rest)
    if grad is None:
        grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().view_as(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def relative_error(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item()


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_output_and_gradients_equal_the_float64_reference(
    name: str, case: str, dtype: torch.dtype, bound: float
) -> None:
    shapes, door = make_door(name, case, dtype)
    ours = run(door.call, shapes, door, door.inputs, None)
    reference = run(door.reference, shapes, door, tuple(x.double() for x in door.inputs), None)
    assert [x.dtype for x in ours] == [dtype] * len(ours)
    assert max(map(relative_error, ours, reference)) < bound


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_values_with_float32_sampling(name: str, dtype: torch.dtype) -> None:
    """Storage is rounded, arithmetic is not: sampling stays float32, as coordinates should."""
    shapes, door = make_door(name, 'pyramid', torch.float32)
    inputs = (door.inputs[0].to(dtype), *door.inputs[1:])
    ours = run(door.call, shapes, door, inputs, None)
    reference = run(door.reference, shapes, door, tuple(x.double() for x in inputs), None)
    assert [x.dtype for x in ours[:3]] == [dtype, dtype, torch.float32]
    assert max(map(relative_error, ours, reference)) < 1e-2


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_all_inputs_in_bfloat16(name: str) -> None:
    """Gradients of offsets are left out: bfloat16 coordinates often lie exactly on a cell's border, where the
    derivative jumps and float32 and float64 may take different sides."""
    shapes, door = make_door(name, 'pyramid', torch.bfloat16)
    ours = run(door.call, shapes, door, door.inputs, None)
    reference = run(door.reference, shapes, door, tuple(x.double() for x in door.inputs), None)
    assert relative_error(ours[0], reference[0]) < 1e-2
    assert relative_error(ours[1], reference[1]) < 1e-2
    assert relative_error(ours[3], reference[3]) < 1e-2


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('isa', ['baseline', 'avx2'])
def test_every_instruction_set(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, door = make_door(name, 'pyramid', torch.float32)
    best = run(door.call, shapes, door, door.inputs, None)
    monkeypatch.setenv('FOCALDISTILLER_ISA', isa)
    held = run(door.call, shapes, door, door.inputs, None)
    assert max(map(relative_error, held, best)) < 1e-5


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('case', ['pyramid', 'few queries, direct gather', 'many queries, ordered by tile'])
def test_bitwise_equal_for_any_number_of_threads(name: str, case: str) -> None:
    shapes, door = make_door(name, case, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(door.call, shapes, door, door.inputs, None))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize('name', ['plain', 'fused'])
def test_batch_of_two_equals_two_of_one(name: str) -> None:
    shapes, door = make_door(name, 'many queries, ordered by tile', torch.float32)
    both = run(door.call, shapes, door, door.inputs, None)
    grad = torch.linspace(-1, 1, both[0].numel()).cos().view_as(both[0])
    for k in range(2):
        one = run(door.call, shapes, door, tuple(x[k : k + 1] for x in door.inputs), grad[k : k + 1])
        assert all(torch.equal(a[k : k + 1], b) for a, b in zip(both, one, strict=True))


def test_packed_batch_of_two_equals_two_of_one() -> None:
    shapes, door = make_door('packed', 'pyramid', torch.float32)
    value, offsets, logits, anchors = door.inputs
    pair_value, pair_query = door.rest
    both = ms_deform_attn_packed(value, shapes, offsets, logits, anchors, *door.rest)
    queries = offsets.shape[1]
    for k in range(2):
        own = pair_value // 3 == k
        one = ms_deform_attn_packed(
            value[3 * k : 3 * k + 3],
            shapes,
            offsets[k : k + 1],
            logits[k : k + 1],
            anchors[own],
            pair_value[own] - 3 * k,
            pair_query[own] - queries * k,
        )
        assert torch.equal(both[k : k + 1], one)


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_gradcheck(name: str) -> None:
    torch.manual_seed(1)
    shapes = [(4, 5), (2, 3)]
    value = torch.randn(2, 26, 2, 3, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(2, 3, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    anchors = torch.rand(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    if name == 'fused':
        inputs, call = (
            (value, offsets, logits, anchors),
            lambda v, *rest: ms_deform_attn_fused(v, shapes, *rest),
        )
    elif name == 'plain':
        weights = logits.detach().view(2, 3, 2, 2, 2).requires_grad_()
        locations = torch.rand_like(offsets).requires_grad_()
        inputs, call = (value, locations, weights), lambda v, *rest: ms_deform_attn(v, shapes, *rest)
    else:
        pairs = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 4, 0, 1, 5])
        anchors = torch.rand(5, 2, 2, dtype=torch.float64, requires_grad=True)
        inputs = (value, offsets, logits, anchors)

        def call(v: Tensor, *rest: Tensor) -> Tensor:
            return ms_deform_attn_packed(v, shapes, *rest, *pairs)

    assert torch.autograd.gradcheck(call, inputs, eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_opcheck(name: str) -> None:
    shapes, door = make_door(name, 'one level', torch.float32)
    op = {'plain': 'ms_deform_attn', 'fused': 'ms_deform_attn_fused', 'packed': 'ms_deform_attn_packed'}[name]
    inputs = [x.requires_grad_() for x in door.inputs]
    flat = [side for shape in shapes for side in shape]
    torch.library.opcheck(getattr(torch.ops.focaldistiller, op), (inputs[0], flat, *inputs[1:], *door.rest))


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_compiles_without_a_graph_break(name: str) -> None:
    shapes, door = make_door(name, 'one level', torch.float32)
    compiled = torch.compile(
        lambda *x: door.call(x[0], shapes, *x[1:]) * 2, fullgraph=True, backend='aot_eager'
    )
    inputs = [x.requires_grad_() for x in door.inputs]
    out = compiled(*inputs, *door.rest)
    torch.testing.assert_close(out, door.call(inputs[0], shapes, *inputs[1:], *door.rest) * 2)
    out.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_autocast_and_inference_mode(name: str) -> None:
    shapes, door = make_door(name, 'pyramid', torch.float32)
    wanted = door.call(door.inputs[0], shapes, *door.inputs[1:], *door.rest)
    with torch.inference_mode():
        assert torch.equal(door.call(door.inputs[0], shapes, *door.inputs[1:], *door.rest), wanted)
        with torch.autocast('cpu', torch.bfloat16):
            out = door.call(door.inputs[0].bfloat16(), shapes, *door.inputs[1:], *door.rest)
    assert out.dtype == torch.bfloat16
    assert relative_error(out, wanted) < 1e-2


@pytest.mark.parametrize(('batch', 'queries'), [(0, 5), (2, 0), (0, 0)])
def test_empty_batch_and_zero_queries(batch: int, queries: int) -> None:
    value = torch.randn(batch, 12, 2, 8, requires_grad=True)
    offsets = torch.randn(batch, queries, 2, 1, 4, 2, requires_grad=True)
    logits = torch.randn(batch, queries, 2, 4)
    out = ms_deform_attn_fused(value, [(3, 4)], offsets, logits, torch.rand(batch, queries, 1, 2))
    assert out.shape == (batch, queries, 16)
    out.sum().backward()
    assert value.grad.shape == value.shape
    assert not value.grad.any()
    assert ms_deform_attn(value, [(3, 4)], offsets, logits.unflatten(3, (1, 4))).shape == (batch, queries, 16)


def test_no_pairs_give_exact_zeros() -> None:
    value = torch.randn(6, 12, 2, 8, requires_grad=True)
    offsets = torch.randn(2, 5, 2, 1, 4, 2, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    out = ms_deform_attn_packed(
        value, [(3, 4)], offsets, torch.randn(2, 5, 2, 4), torch.rand(0, 2, 2), none, none
    )
    assert out.shape == (2, 5, 16)
    assert not out.any()
    out.sum().backward()
    assert not value.grad.any()
    assert not offsets.grad.any()


@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('batch', [1, 2])
def test_non_contiguous_inputs(name: str, batch: int) -> None:
    shapes, door = make_door(name, 'pyramid', torch.float32, batch)
    strided = tuple(torch.stack([x, x], dim=batch)[(slice(None),) * batch + (0,)] for x in door.inputs)
    assert strided[0].stride() != door.inputs[0].stride()
    wanted = run(door.call, shapes, door, door.inputs, None)
    leaves = [
        x.requires_grad_() for x in strided
    ]  # run() clones, which would straighten the strides of a batch of 1
    out = door.call(leaves[0], shapes, *leaves[1:], *door.rest)
    grad = torch.linspace(-1, 1, out.numel()).cos().view_as(out)
    ours = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    assert all(torch.equal(a, b) for a, b in zip(wanted, ours, strict=True))


@pytest.mark.parametrize(('shapes', 'queries'), [([(3, 4)], 3), ([(3, 4)], 100), ([(3, 4), (1, 2)], 100)])
@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf'), 1e30, -1e30, 7.0])
def test_points_that_miss_the_map_add_nothing(
    bad: float, shapes: list[tuple[int, int]], queries: int
) -> None:
    """Not even when the map's border holds NaN: what is outside is never read, in place or in a copy of the map."""
    value = torch.randn(1, sum(h * w for h, w in shapes), 1, 16)
    value[0, [0, 3, 8, 11]] = float('nan')
    value.requires_grad_()
    locations = torch.full((1, queries, 1, len(shapes), 2, 2), 0.5)
    locations[:, 1:, :, 0, 1] = bad
    locations.requires_grad_()
    weights = torch.zeros(1, queries, 1, len(shapes), 2)
    weights[:, :, :, 0] = 1
    out = ms_deform_attn(value, shapes, locations, weights)
    out.sum().backward()
    torch.testing.assert_close(out[0, 1] * 2, out[0, 0], equal_nan=False)
    assert locations.grad[0, 1, 0, 0, 1].tolist() == [0, 0]
    assert value.grad.isfinite().all()


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -float('inf')]).view(1, 1, 1, 4)
    args = (torch.zeros(1, 1, 1, 1, 4, 2), logits, torch.full((1, 1, 1, 2), 0.5))
    value = torch.randn(1, 9, 1, 16)
    torch.testing.assert_close(
        ms_deform_attn_fused(value, [(3, 3)], *args), ms_deform_attn_fused_torch(value, [(3, 3)], *args)
    )


def test_queries_of_two_maps_with_interleaved_pairs() -> None:
    """Maps that share queries out of order, maps without pairs and queries without maps."""
    torch.manual_seed(3)
    pair_value = torch.tensor([0, 0, 2, 2, 3, 5])
    pair_query = torch.tensor([5, 2, 0, 5, 7, 9])
    value = torch.randn(7, 12, 2, 8)
    args = (
        torch.randn(1, 11, 2, 1, 4, 2),
        torch.randn(1, 11, 2, 4),
        torch.rand(6, 2, 2),
        pair_value,
        pair_query,
    )
    inputs = (value, *args[:3])
    door = Door(ms_deform_attn_packed, ms_deform_attn_packed_torch, inputs, (pair_value, pair_query))
    ours = run(door.call, [(3, 4)], door, inputs, None)
    reference = run(door.reference, [(3, 4)], door, tuple(x.double() for x in inputs), None)
    assert max(map(relative_error, ours, reference)) < 1e-5


@pytest.mark.parametrize(
    ('change', 'culprit'),
    [
        (dict(value=torch.randn(2, 12, 16)), 'value must be'),
        (dict(value=torch.ones(2, 12, 2, 8, dtype=torch.int64)), 'value must be'),
        (dict(spatial_shapes=[(3, 5)]), 'spatial_shapes'),
        (dict(sampling_offsets=torch.randn(2, 5, 3, 1, 4, 2)), 'sampling_offsets must be'),
        (dict(sampling_offsets=torch.randn(3, 5, 2, 1, 4, 2)), 'sampling_offsets has batch 3'),
        (dict(sampling_offsets=torch.randn(2, 5, 2, 1, 4, 2, device='meta')), 'sampling_offsets is on meta'),
        (dict(attention_logits=torch.randn(2, 5, 2, 3)), 'attention_logits must be'),
        (dict(reference_points=torch.rand(2, 4, 1, 2)), 'reference_points must be'),
    ],
)
def test_wrong_inputs_name_the_argument(change: dict, culprit: str) -> None:
    good = dict(
        value=torch.randn(2, 12, 2, 8),
        spatial_shapes=[(3, 4)],
        sampling_offsets=torch.randn(2, 5, 2, 1, 4, 2),
        attention_logits=torch.randn(2, 5, 2, 4),
        reference_points=torch.rand(2, 5, 1, 2),
    )
    assert ms_deform_attn_fused(**good).shape == (2, 5, 16)
    with pytest.raises(ValueError, match=culprit):
        ms_deform_attn_fused(**{**good, **change})


@pytest.mark.parametrize(
    ('pair_value', 'pair_query', 'culprit'),
    [
        ([1, 0], [0, 0], 'pair_value must be sorted'),
        ([0, 2], [0, 0], r'pair_value\[1\] = 2'),
        ([0, 1], [0, 5], r'pair_query\[1\] = 5'),
        ([0, 1], [0], 'pair_query must be'),
    ],
)
def test_wrong_pairs_name_the_argument(pair_value: list[int], pair_query: list[int], culprit: str) -> None:
    args = (torch.randn(1, 5, 2, 1, 4, 2), torch.randn(1, 5, 2, 4), torch.rand(2, 1, 2))
    pairs = (torch.tensor(pair_value), torch.tensor(pair_query))
    with pytest.raises((ValueError, RuntimeError), match=culprit):
        ms_deform_attn_packed(torch.randn(2, 12, 2, 8), [(3, 4)], *args, *pairs)


def test_pure_torch_serves_the_same_doors() -> None:
    shapes, door = make_door('packed', 'pyramid', torch.float64)
    with library.pure_torch():
        assert not library.serves(door.inputs[0])
        pure = door.call(door.inputs[0], shapes, *door.inputs[1:], *door.rest)
    assert library.serves(door.inputs[0])
    torch.testing.assert_close(pure, door.call(door.inputs[0], shapes, *door.inputs[1:], *door.rest))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize(
    ('dtype', 'bound'),
    [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 1e-2), (torch.float16, 1e-2)],
)
def test_cuda_equals_the_float64_reference(name: str, case: str, dtype: torch.dtype, bound: float) -> None:
    assert library.serves(torch.empty(0, device='cuda')), 'a GPU is here but the CUDA kernels are not built'
    shapes, door = make_door(name, case, torch.float64 if dtype == torch.float64 else torch.float32)
    inputs = tuple(x.cuda() for x in (door.inputs[0].to(dtype), *door.inputs[1:]))
    door = door._replace(rest=tuple(x.cuda() for x in door.rest))
    batch, queries, heads, channels = *inputs[1].shape[:3], inputs[0].shape[3]
    size = (batch, queries, heads * channels)
    grad = torch.linspace(-1, 1, math.prod(size), dtype=torch.float64, device='cuda').cos().view(size)
    ours = run(door.call, shapes, door, inputs, grad)
    reference = run(door.reference, shapes, door, tuple(x.double() for x in inputs), grad)
    assert max(map(relative_error, ours, reference)) < bound


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_cuda_has_the_gradient_and_a_batch_of_two_is_two_of_one(name: str) -> None:
    shapes, door = make_door(name, 'three points, two references', torch.float64)
    inputs, rest = [x.cuda() for x in door.inputs], [x.cuda() for x in door.rest]
    few = [x[:, :3] if x.dim() > 3 and x is not inputs[0] else x for x in inputs]
    if name == 'packed':
        seen = rest[1] % 30 < 3
        rest = [rest[0][seen], rest[1][seen] // 30 * 3 + rest[1][seen] % 30]
        few[3] = inputs[3][seen]
    elif name == 'fused':
        few[3] = inputs[3][:, :3]
    few = [x.contiguous().requires_grad_() for x in few]

    def call(*leaves: Tensor) -> Tensor:
        return door.call(leaves[0], shapes, *leaves[1:], *rest)

    assert torch.autograd.gradcheck(call, few, nondet_tol=1e-10)
    if name != 'packed':
        both = call(*few)
        for sample in range(2):
            one = call(*(x[sample : sample + 1] for x in few))
            torch.testing.assert_close(one[0], both[sample], rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
def test_cuda_without_queries_or_pairs_leaves_exact_zeros(name: str) -> None:
    shapes, door = make_door(name, 'pyramid', torch.float32)
    inputs, rest = [x.cuda() for x in door.inputs], [x.cuda()[:0] for x in door.rest]
    if name == 'packed':
        inputs[3] = inputs[3][:0]
    else:
        inputs[1:] = [x[:, :0] for x in inputs[1:]]
    leaves = [x.requires_grad_() for x in inputs]
    out = door.call(leaves[0], shapes, *leaves[1:], *rest)
    assert not out.any()
    grads = torch.autograd.grad(out.sum(), leaves)
    assert not any(grad.any() for grad in grads)

"""The compiled weighted distance against plain torch in float64."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2, masked_l2_torch

pytestmark = pytest.mark.skipif(
    not library.serves(torch.empty(0), 'masked_l2'), reason='no compiler: the operators are not built'
)


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Features and a weight that is zero on most of the map."""
    torch.manual_seed(0)
    n, _, h, w = shape
    weight = torch.rand(n, 1, h, w, dtype=dtype)
    weight[:, :, h // 3 :] = 0
    return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype), weight


def both(student: Tensor, teacher: Tensor, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient of the operator, and of plain torch in float64."""
    results = []
    for function, tensors in (
        (masked_l2, (student, teacher, weight)),
        (masked_l2_torch, (student.double(), teacher.double(), weight.double())),
    ):
        leaf = tensors[0].detach().clone().requires_grad_()
        loss = function(leaf, *tensors[1:])
        (0.5 * loss).backward()
        results.append((loss.detach(), leaf.grad))
    return results


@pytest.mark.parametrize('shape', [(2, 3, 20, 31), (1, 2, 50, 60), (1, 1, 1, 1), (3, 2, 3, 7)])
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_plain_torch(shape: tuple[int, ...], dtype: torch.dtype, bound: float) -> None:
    (loss, grad), (expected, slope) = both(*inputs(shape, dtype))
    assert loss.dtype == grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected, rtol=bound, atol=bound)
    torch.testing.assert_close(grad.double(), slope, rtol=bound, atol=bound)


@pytest.mark.parametrize('isa', ['baseline', 'avx2'])
def test_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('FOCALDISTILLER_ISA', isa)
    (loss, grad), (expected, slope) = both(*inputs((2, 3, 20, 31)))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-5, atol=1e-5)


def test_bitwise_equal_for_any_number_of_threads() -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(both(*inputs((3, 7, 20, 31)))[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_without_any_weight_it_is_an_exact_zero_with_a_live_graph() -> None:
    student, teacher, weight = inputs((2, 3, 20, 31))
    (loss, grad), _ = both(student, teacher, torch.zeros_like(weight))
    assert loss == 0
    assert not grad.any()


def test_gradcheck_and_opcheck() -> None:
    student, teacher, weight = inputs((1, 2, 3, 5), torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: masked_l2(s, teacher, weight), (student,))
    torch.library.opcheck(torch.ops.focaldistiller.masked_l2, (student, teacher, weight))


@pytest.mark.parametrize(
    ('change', 'culprit'), [({'teacher': (1, 2, 3, 4)}, 'teacher'), ({'weight': (1, 2, 3, 3)}, 'weight')]
)
def test_wrong_inputs_name_the_argument(change: dict[str, tuple[int, ...]], culprit: str) -> None:
    shapes = {'student': (1, 2, 3, 3), 'teacher': (1, 2, 3, 3), 'weight': (1, 1, 3, 3), **change}
    with pytest.raises(ValueError, match=culprit):
        masked_l2(**{name: torch.zeros(shape) for name, shape in shapes.items()})

"""The compiled channel-wise divergence against plain torch in float64."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.channel_wise_kl import channel_wise_kl, channel_wise_kl_torch

pytestmark = pytest.mark.skipif(
    not library.serves(torch.empty(0), 'channel_wise_kl'), reason='no compiler: the operators are not built'
)


def features(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(shape, dtype=dtype) + 20, 3 * torch.randn(shape, dtype=dtype) - 5


def both(student: Tensor, teacher: Tensor, **kwargs: float) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient of the operator, and of plain torch in float64."""
    results = []
    for function, s, t in (
        (channel_wise_kl, student, teacher),
        (channel_wise_kl_torch, student.double(), teacher.double()),
    ):
        s = s.detach().clone().requires_grad_()
        loss = function(s, t, **kwargs)
        (3 * loss).backward()
        results.append((loss.detach(), s.grad))
    return results


@pytest.mark.parametrize('shape', [(2, 3, 20, 31), (1, 5, 40, 60), (1, 1, 1, 1), (3, 2, 1, 7)])
@pytest.mark.parametrize('cross_entropy', [False, True])
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_equals_plain_torch(
    shape: tuple[int, ...], cross_entropy: bool, dtype: torch.dtype, bound: float
) -> None:
    (loss, grad), (expected, slope) = both(*features(shape, dtype), tau=2.0, cross_entropy=cross_entropy)
    assert loss.dtype == grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected, rtol=bound, atol=bound)
    torch.testing.assert_close(
        grad.double(), slope, rtol=0, atol=bound * slope.abs().max().clamp_min(1e-3).item() * 10
    )


@pytest.mark.parametrize('isa', ['baseline', 'avx2'])
def test_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('FOCALDISTILLER_ISA', isa)
    (loss, grad), (expected, slope) = both(*features((2, 3, 20, 31)), tau=0.7)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-4, atol=1e-6)


def test_equal_features_have_no_divergence_and_no_gradient() -> None:
    student, _ = features((2, 3, 33, 30))
    (loss, grad), _ = both(student, student, tau=2.0)
    assert loss.abs() < 1e-6
    assert not grad.any()


def test_bitwise_equal_for_any_number_of_threads() -> None:
    student, teacher = features((3, 7, 20, 31))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(both(student, teacher, tau=2.0)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_bfloat16_is_computed_in_float32() -> None:
    student, teacher = (x.bfloat16() for x in features((1, 2, 10, 10)))
    (loss, grad), (expected, slope) = both(student, teacher, tau=2.0)
    assert loss.dtype == grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
def test_nothing_to_compare_is_an_exact_zero(shape: tuple[int, ...]) -> None:
    student = torch.zeros(shape, requires_grad=True)
    loss = channel_wise_kl(student, torch.zeros(shape), 2.0)
    loss.backward()
    assert loss == 0
    assert student.grad.shape == shape


def test_gradcheck_and_opcheck() -> None:
    student, teacher = features((1, 2, 3, 5), torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: channel_wise_kl(s, teacher, 1.5), (student,))
    torch.library.opcheck(torch.ops.focaldistiller.channel_wise_kl, (student, teacher, 1.5, False))


def test_wrong_inputs_name_the_argument() -> None:
    with pytest.raises(ValueError, match='student and teacher'):
        channel_wise_kl(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4), 2.0)
    with pytest.raises(ValueError, match='tau'):
        channel_wise_kl(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), 0.0)

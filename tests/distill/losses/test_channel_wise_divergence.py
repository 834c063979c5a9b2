"""Channel-wise divergence against the published formula, written out naively in float64."""

import math

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.channel_wise_divergence import ChannelWiseDivergence


def published(student: Tensor, teacher: Tensor, tau: float, subtract_entropy: bool) -> float:
    """``tau^2 / (C N) sum_nc -sum_p softmax(T / tau) log softmax(S / tau)``, one number after the other."""
    n, c, *_ = student.shape
    total = 0.0
    for i in range(n):
        for j in range(c):
            s = [value / tau for value in student[i, j].double().flatten().tolist()]
            t = [value / tau for value in teacher[i, j].double().flatten().tolist()]
            log_zs = math.log(sum(math.exp(value) for value in s))
            log_zt = math.log(sum(math.exp(value) for value in t))
            for a, b in zip(s, t, strict=True):
                p = math.exp(b - log_zt)
                total -= p * (a - log_zs)
                total += p * (b - log_zt) if subtract_entropy else 0.0
    return total * tau * tau / (c * n)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('tau', [1.0, 2.0])
def test_equals_the_published_formula(legacy: bool, tau: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 7) * 2, torch.randn(2, 3, 5, 7) * 3
    value = ChannelWiseDivergence(tau=tau, legacy=legacy)(student, teacher).item()
    assert value == pytest.approx(published(student, teacher, tau, not legacy), rel=1e-5)


def test_hand_computed_value() -> None:
    """Two positions: the teacher is 3/4 and 1/4 sure, the student 1/2 and 1/2; tau = 1."""
    teacher = torch.tensor([math.log(3.0), 0.0]).view(1, 1, 1, 2)
    student = torch.zeros(1, 1, 1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert ChannelWiseDivergence(tau=1.0)(student, teacher).item() == pytest.approx(expected, rel=1e-6)
    cross_entropy = ChannelWiseDivergence(tau=1.0, legacy=True)(student, teacher).item()
    assert cross_entropy == pytest.approx(math.log(2.0), rel=1e-6)


def test_zero_when_equal_and_no_gradient_there() -> None:
    teacher = torch.randn(2, 4, 6, 6)
    student = teacher.clone().requires_grad_()
    loss = ChannelWiseDivergence()(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad.abs().max() < 1e-7


def test_legacy_has_the_same_gradient() -> None:
    torch.manual_seed(0)
    teacher, start = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    grads = []
    for legacy in (False, True):
        student = start.clone().requires_grad_()
        ChannelWiseDivergence(legacy=legacy)(student, teacher).backward()
        grads.append(student.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize('legacy', [False, True])
def test_gradcheck(legacy: bool) -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(ChannelWiseDivergence(legacy=legacy), (student, teacher))


def test_rows_split_into_blocks_give_the_same() -> None:
    """Maps so large that a block holds a single channel."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 3, 600, 500), torch.randn(1, 3, 600, 500)
    whole = ChannelWiseDivergence()(student, teacher)
    single = [ChannelWiseDivergence()(student[:, i : i + 1], teacher[:, i : i + 1]) for i in range(3)]
    assert whole.item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-5)


def test_non_contiguous_and_large_values() -> None:
    torch.manual_seed(0)
    student = (torch.randn(2, 5, 6, 3) * 1e4).permute(0, 3, 1, 2).requires_grad_()
    teacher = (torch.randn(2, 5, 6, 3) * 1e4).permute(0, 3, 1, 2)
    loss = ChannelWiseDivergence()(student, teacher)
    again = ChannelWiseDivergence()(student.detach().contiguous(), teacher.contiguous())
    assert loss.isfinite()
    assert loss.item() == pytest.approx(again.item(), rel=1e-6)
    loss.backward()
    assert student.grad.isfinite().all()


def test_batch_of_two_equals_two_singles() -> None:
    student, teacher = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    loss = ChannelWiseDivergence()
    singles = [loss(student[i : i + 1], teacher[i : i + 1]).item() for i in range(2)]
    assert loss(student, teacher).item() == pytest.approx(sum(singles) / 2, rel=1e-5)


@pytest.mark.parametrize('shape', [(0, 4, 5, 5), (2, 4, 0, 5)])
def test_empty_input_gives_zero_with_a_live_graph(shape: tuple[int, ...]) -> None:
    student = torch.zeros(shape, requires_grad=True)
    loss = ChannelWiseDivergence()(student, torch.zeros(shape))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None


def test_bad_arguments_are_clear() -> None:
    with pytest.raises(ValueError, match='tau must be positive'):
        ChannelWiseDivergence(tau=0)
    with pytest.raises(ValueError, match='connector'):
        ChannelWiseDivergence()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3))

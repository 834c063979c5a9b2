"""Correlation of features, against the textbook."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.pearson_correlation import PearsonCorrelation
from projects.mmdet3d_plugin.distill.registry import DistillError


def pair(n: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))


def correlation(one: Tensor, other: Tensor) -> float:
    """Of two channels of any shape."""
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


def test_equals_the_formula() -> None:
    student, teacher = pair()
    each = [1 - correlation(student[n, c], teacher[n, c]) for n in range(2) for c in range(3)]
    assert PearsonCorrelation()(student, teacher).item() == pytest.approx(sum(each) / 6, rel=1e-12)
    whole = [1 - correlation(student[:, c], teacher[:, c]) for c in range(3)]
    assert PearsonCorrelation(over_batch=True)(student, teacher).item() == pytest.approx(
        sum(whole) / 3, rel=1e-12
    )


def test_scale_and_offset_of_a_channel_do_not_count() -> None:
    student, teacher = pair()
    loss, factor = PearsonCorrelation(), torch.tensor([0.01, 1.0, 300.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(loss(student * factor - 5 * factor, teacher), loss(student, teacher))
    assert loss(student, student * factor + 7).item() == pytest.approx(0, abs=1e-12)
    assert loss(student, -student).item() == pytest.approx(2)


@pytest.mark.parametrize('over_batch', [False, True])
def test_gradcheck(over_batch: bool) -> None:
    student, teacher = pair()
    assert torch.autograd.gradcheck(
        lambda feature: PearsonCorrelation(over_batch)(feature, teacher), student.requires_grad_()
    )


def test_batch_of_two_equals_two_singles_unless_the_batch_is_one() -> None:
    student, teacher = pair()
    for over_batch in (False, True):
        loss = PearsonCorrelation(over_batch)
        halves = [loss(student[i : i + 1], teacher[i : i + 1]) for i in range(2)]
        both = loss(student, teacher)
        assert torch.isclose(both, sum(halves) / 2, rtol=1e-12) == (not over_batch)


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (1, 3, 0, 4), (2, 3, 1, 1)])
def test_nothing_to_compare_is_zero_with_a_live_graph(shape: tuple[int, ...]) -> None:
    student = torch.randn(shape, requires_grad=True)
    loss = PearsonCorrelation()(student, torch.randn(shape))
    assert loss.item() == 0
    loss.backward()
    assert not student.grad.any()


def test_a_flat_channel_is_finite_and_learns_nothing() -> None:
    student = torch.full((1, 2, 40, 40), 0.1)
    student[:, 1] = torch.randn(40, 40)
    student.requires_grad_()
    PearsonCorrelation()(student, torch.randn(1, 2, 40, 40)).backward()
    assert not student.grad[:, 0].any()
    assert student.grad[:, 1].any()
    assert student.grad.isfinite().all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DistillError, match='give the term a connector'):
        PearsonCorrelation()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 6, 6))

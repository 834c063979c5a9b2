"""Feature L2 against the published formula, written out naively in float64."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2


def published(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """``1 / sum(mask) * sum((mask * S - mask * T)^2)``, one number after the other."""
    n, c, h, w = student.shape
    total = 0.0
    for i, j, y, x in [(i, j, y, x) for i in range(n) for j in range(c) for y in range(h) for x in range(w)]:
        m = mask[i, 0, y, x].item()
        total += (m * student[i, j, y, x].item() - m * teacher[i, j, y, x].item()) ** 2
    return total / sum(mask.double().flatten().tolist())


def mended(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """Per sample ``sum(mask * mean_c((S - T)^2)) / max(sum(mask), 1)``, then the mean over samples."""
    n, c, h, w = student.shape
    total = 0.0
    for i in range(n):
        above, area = 0.0, 0.0
        for y in range(h):
            for x in range(w):
                square = sum((student[i, j, y, x].item() - teacher[i, j, y, x].item()) ** 2 for j in range(c))
                above += mask[i, 0, y, x].item() * square / c
                area += mask[i, 0, y, x].item()
        total += above / max(area, 1.0)
    return total / n


@pytest.mark.parametrize(('legacy', 'formula'), [(True, published), (False, mended)])
def test_equals_the_formula(legacy: bool, formula: object) -> None:
    torch.manual_seed(0)
    student, teacher, mask = torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, 5), torch.rand(2, 1, 6, 5)
    value = FeatureL2(legacy=legacy)(student, teacher, mask).item()
    assert value == pytest.approx(formula(student, teacher, mask), rel=1e-5)


def test_hand_computed_value() -> None:
    """Two cells with weights 1 and 0.5, two channels, differences (1, 1) and (2, 0)."""
    student = torch.tensor([[1.0, 2.0], [1.0, 0.0]]).view(1, 2, 1, 2)
    mask = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    assert FeatureL2()(student, torch.zeros_like(student), mask).item() == pytest.approx((1 + 0.5 * 2) / 1.5)
    legacy = FeatureL2(legacy=True)(student, torch.zeros_like(student), mask).item()
    assert legacy == pytest.approx((2 + 0.25 * 4) / 1.5)


def test_everywhere_is_the_mean() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert FeatureL2()(student, teacher).item() == pytest.approx(
        (student - teacher).square().mean().item(), rel=1e-5
    )


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('with_region', [False, True])
def test_gradcheck(legacy: bool, with_region: bool) -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    region = torch.rand(2, 1, 3, 4, dtype=torch.float64) if with_region else None
    assert torch.autograd.gradcheck(lambda s: FeatureL2(legacy=legacy)(s, teacher, region), (student,))


@pytest.mark.parametrize('legacy', [False, True])
def test_empty_region_is_exactly_zero_with_a_live_graph(legacy: bool) -> None:
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = FeatureL2(legacy=legacy)(student, torch.randn(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.abs().max() == 0


def test_batch_of_two_equals_two_singles_also_when_one_is_empty() -> None:
    student, teacher, mask = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    mask[1] = 0
    loss = FeatureL2()
    singles = [loss(student[i : i + 1], teacher[i : i + 1], mask[i : i + 1]).item() for i in range(2)]
    assert loss(student, teacher, mask).item() == pytest.approx(sum(singles) / 2, rel=1e-5)


def test_weight_carries_over_between_widths_and_sizes() -> None:
    student, teacher, mask = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4), torch.rand(1, 1, 4, 4) + 0.1
    wide = [value.repeat(1, 8, 1, 1) for value in (student, teacher)]
    large = [value.repeat_interleave(3, 2).repeat_interleave(3, 3) for value in (student, teacher, mask)]
    expected = FeatureL2()(student, teacher, mask).item()
    assert FeatureL2()(*wide, mask).item() == pytest.approx(expected, rel=1e-5)
    assert FeatureL2()(*large).item() == pytest.approx(expected, rel=1e-5)


def test_large_maps_are_cut_without_a_trace() -> None:
    torch.manual_seed(0)
    student, teacher, mask = (
        torch.randn(1, 5, 400, 500),
        torch.randn(1, 5, 400, 500),
        torch.rand(1, 1, 400, 500),
    )
    student.requires_grad_()
    FeatureL2()(student, teacher, mask).backward()
    expected = 2 * mask * (student - teacher).detach() / (5 * mask.sum())
    assert torch.allclose(student.grad, expected, rtol=1e-4, atol=1e-12)


def test_second_backward_over_a_kept_graph() -> None:
    student = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = FeatureL2()(student, torch.zeros(1, 3, 4, 4))
    first = torch.autograd.grad(loss, student, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, student)[0])


def test_wrong_region_is_clear() -> None:
    with pytest.raises(
        ValueError, match=r'the region is \(1, 1, 2, 2\) but the features need \(1, 1, 4, 4\)'
    ):
        FeatureL2()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 2, 2))


def test_no_samples() -> None:
    student = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss = FeatureL2()(student, torch.zeros(0, 3, 4, 4), torch.zeros(0, 1, 4, 4))
    loss.backward()
    assert loss.item() == 0.0

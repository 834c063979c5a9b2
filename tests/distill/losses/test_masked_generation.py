"""Masked generation: what is dropped, where it is compared, and what it reduces to."""

import pytest
import torch

from projects.mmdet3d_plugin.distill.losses import masked_generation
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2
from projects.mmdet3d_plugin.distill.losses.masked_generation import MaskedGeneration
from projects.mmdet3d_plugin.distill.step import Step


def identity(loss: MaskedGeneration) -> MaskedGeneration:
    """Make the generator pass non-negative features through."""
    for layer in (loss.generator[0], loss.generator[2]):
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return loss


def box_region() -> torch.Tensor:
    region = torch.zeros(2, 1, 8, 10)
    region[0, 0, 2:5, 3:7] = 1
    region[1, 0, 1:3, 1:3] = 0.5
    return region


def test_without_dropping_an_identity_generator_gives_feature_l2() -> None:
    torch.manual_seed(0)
    student, teacher, region = torch.rand(2, 4, 8, 10), torch.rand(2, 4, 8, 10), box_region()
    loss = identity(MaskedGeneration(4, ratio=0.0))
    assert loss(student, teacher, region).item() == pytest.approx(
        FeatureL2()(student, teacher, region).item(), rel=1e-6
    )


def test_a_fresh_residual_generator_compares_the_feature_itself() -> None:
    feature, teacher = torch.rand(2, 4, 8, 10), torch.rand(2, 4, 8, 10)
    loss = MaskedGeneration(4, ratio=0.0, residual=True)
    torch.testing.assert_close(
        loss(feature, teacher, box_region()), FeatureL2()(feature, teacher, box_region())
    )


def test_hand_computed_value_when_all_is_dropped() -> None:
    """The identity generator makes 0 of dropped cells: the teacher's mean square in the region is left."""
    teacher, region = torch.rand(1, 4, 8, 10), box_region()[:1]
    loss = identity(MaskedGeneration(4, ratio=1.0))(torch.rand(1, 4, 8, 10), teacher, region)
    assert loss.item() == pytest.approx(teacher[:, :, 2:5, 3:7].square().mean().item(), rel=1e-5)


def test_only_the_region_is_dropped_and_about_the_ratio() -> None:
    torch.manual_seed(0)
    region = torch.zeros(1, 1, 60, 60)
    region[..., :40] = 0.3
    out = MaskedGeneration(3, ratio=0.65).drop(torch.ones(1, 3, 60, 60), region)
    assert (out[..., 40:] == 1).all()
    assert (out == 0).float()[..., :40].mean().item() == pytest.approx(0.65, abs=0.03)
    assert (out.amax(1) == out.amin(1)).all()


def test_zero_when_the_generated_equals_the_teacher() -> None:
    feature = torch.rand(2, 4, 8, 10)
    assert identity(MaskedGeneration(4, ratio=0.0))(feature, feature, box_region()).item() == 0.0


def test_empty_region_is_exactly_zero_with_a_live_graph() -> None:
    loss, student = MaskedGeneration(4), torch.rand(2, 4, 8, 10, requires_grad=True)
    value = loss(student, torch.rand(2, 4, 8, 10), torch.zeros(2, 1, 8, 10))
    value.backward()
    assert value.item() == 0.0
    assert student.grad.abs().max() == 0
    assert all(p.grad is not None for p in loss.parameters())


def test_batch_of_two_equals_two_singles() -> None:
    student, teacher, region = torch.rand(2, 4, 8, 10), torch.rand(2, 4, 8, 10), box_region()
    loss = MaskedGeneration(4, ratio=1.0)
    singles = [loss(student[i : i + 1], teacher[i : i + 1], region[i : i + 1]).item() for i in range(2)]
    assert loss(student, teacher, region).item() == pytest.approx(sum(singles) / 2, rel=1e-5)


def test_background_is_compared_but_not_dropped() -> None:
    student, teacher = torch.rand(1, 4, 8, 10), torch.rand(1, 4, 8, 10)
    value = identity(MaskedGeneration(4, ratio=1.0, background=0.1))(
        student, teacher, torch.zeros(1, 1, 8, 10)
    )
    expected = 0.1 * (student - teacher).square().mean((1, 2, 3)).item() * 80 / max(0.1 * 80, 1)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gradients_reach_student_and_generator_but_not_the_teacher() -> None:
    loss, student = MaskedGeneration(4), torch.rand(1, 4, 8, 10, requires_grad=True)
    teacher = torch.rand(1, 4, 8, 10, requires_grad=True)
    loss(student, teacher, box_region()[:1]).backward()
    assert student.grad.any()
    assert all(p.grad.any() for p in loss.parameters())
    assert teacher.grad is None


def test_the_teachers_doubt_scales_the_background() -> None:
    student, teacher = torch.rand(1, 4, 8, 10), torch.rand(1, 4, 8, 10)
    loss, nothing = identity(MaskedGeneration(4, ratio=1.0, background=0.5)), torch.zeros(1, 1, 8, 10)
    sure = torch.zeros(1, 1, 8, 10)
    sure[..., :5] = 1.0
    square = (student - teacher).square().mean(1)
    assert loss(student, teacher, nothing, background=sure).item() == pytest.approx(
        square[..., :5].mean().item(), rel=1e-5
    )


def test_relative_loss_is_one_for_zeros_whatever_the_scale() -> None:
    teacher, region = torch.rand(2, 4, 8, 10), box_region()
    loss = identity(MaskedGeneration(4, ratio=1.0, relative=True))
    for scale in (0.01, 1.0, 300.0):
        assert loss(torch.rand(2, 4, 8, 10), scale * teacher, region).item() == pytest.approx(1.0, rel=1e-5)


def test_relative_loss_of_an_empty_region_is_exactly_zero() -> None:
    loss, student = MaskedGeneration(4, relative=True), torch.rand(1, 4, 8, 10, requires_grad=True)
    value = loss(student, torch.zeros(1, 4, 8, 10), torch.zeros(1, 1, 8, 10))
    value.backward()
    assert value.item() == 0.0


@pytest.mark.parametrize('relative', [False, True])
def test_few_cells_and_the_whole_map_give_the_same(monkeypatch: pytest.MonkeyPatch, relative: bool) -> None:
    """In float64: value and gradients of both ways of generating."""
    torch.manual_seed(2)
    student = torch.rand(2, 4, 8, 10, dtype=torch.float64, requires_grad=True)
    teacher, region = torch.rand(2, 4, 8, 10, dtype=torch.float64), box_region().double()
    loss = MaskedGeneration(4, ratio=1.0, relative=relative).double()
    results = []
    for limit in (0.0, 1.1):
        monkeypatch.setattr(masked_generation, 'SPARSE_BELOW', limit)
        value = loss(student, teacher, region)
        results.append((value, *torch.autograd.grad(value, (student, *loss.parameters()))))
    for whole, few in zip(*results, strict=True):
        torch.testing.assert_close(whole, few)


def test_gradcheck_in_float64() -> None:
    torch.manual_seed(3)
    loss = MaskedGeneration(2, ratio=1.0, background=0.2, relative=True).double()
    teacher, region = torch.rand(1, 2, 4, 5, dtype=torch.float64), torch.zeros(1, 1, 4, 5)
    region[..., 1:3, 1:3] = 0.7
    student = torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, region.double()), student)


class Reader(DistillLoss):
    """Looks at some cells of what another term generates."""

    def __init__(self, cells: torch.Tensor) -> None:
        super().__init__()
        self.cells = cells

    def cells_needed(self, step: Step, like: torch.Tensor) -> torch.Tensor:
        return self.cells


def test_what_readers_look_at_is_generated_too_and_the_loss_stays() -> None:
    torch.manual_seed(4)
    student, teacher, region = torch.rand(2, 4, 8, 10), torch.rand(2, 4, 8, 10), box_region()
    loss = MaskedGeneration(4, ratio=1.0, name='bev')
    alone = Step({}, {}, {})
    value = loss(student, teacher, region, step=alone)
    assert alone.generated == {}
    cells = torch.zeros(2, 8, 10, dtype=torch.bool)
    cells[0, 7, 9] = cells[1, 0, 0] = True
    loss.consumers = (Reader(cells),)
    step = Step({}, {}, {})
    torch.testing.assert_close(loss(student, teacher, region, step=step), value)
    whole = loss.generator(loss.drop(student, region))
    made = cells | (region[:, 0] > 0)
    torch.testing.assert_close(step.generated['bev'], whole * made[:, None])


def test_readers_send_their_gradient_to_the_generator_and_the_student() -> None:
    student, teacher = torch.rand(1, 4, 8, 10, requires_grad=True), torch.rand(1, 4, 8, 10)
    cells = torch.zeros(1, 8, 10, dtype=torch.bool)
    cells[0, 7, 9] = True
    loss, step = MaskedGeneration(4), Step({}, {}, {})
    loss.consumers = (Reader(cells),)
    loss(student, teacher, torch.zeros(1, 1, 8, 10), step=step)
    step.generated[loss.name][0, :, 7, 9].sum().backward()
    assert student.grad[0, :, 6:, 8:].any()
    assert all(p.grad.any() for p in loss.parameters())


@pytest.mark.parametrize(('argument', 'value'), [('ratio', 1.5), ('background', -1.0)])
def test_mistakes_are_clear(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f'{argument} must'):
        MaskedGeneration(4, **{argument: value})

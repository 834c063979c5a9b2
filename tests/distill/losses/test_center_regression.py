"""SparseKD's regression distillation against its formula, written out box by box."""

import math

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.center_regression import CenterRegression
from tests.distill.center_world import (
    PC_RANGE,
    SIZE,
    TASKS,
    TWO_SAMPLES,
    WIDTHS,
    half,
    half_step,
    heads,
    step,
)

CODE_WEIGHTS = {'reg': 1.0, 'height': 0.5, 'dim': 2.0, 'rot': 0.25}


# Left of the range, above it, and at a corner.
SOME_OUTSIDE = ([[(2.5, 0.2), (-3.0, 1.5)], [(5.5, 4.7), (12.2, -6.3), (1.2, 3.3)]], [[0, 2], [1, 0, 0]])


def published(world: tuple[list, list], compat: bool = False) -> float:
    """``sum_d w_d sum_i |r_S - r_T| / M`` per task, mean over tasks; a cell is 1 m, the corner is (0, -4).

    A centre outside is left out, or with ``compat`` counts at the nearest cell of the border.
    """
    student, teacher, (places, labels) = heads(0), heads(1), world
    first, per_task = 0, []
    for ours, theirs, classes in zip(student, teacher, TASKS, strict=True):
        total, count = 0.0, 0
        for b in range(2):
            for (x, y), label in zip(places[b], labels[b], strict=True):
                if not first <= label < first + classes:
                    continue
                row, column = math.floor(y + 4), math.floor(x)
                if compat:
                    row, column = min(max(row, 0), SIZE[0] - 1), min(max(column, 0), SIZE[1] - 1)
                elif not (0 <= row < SIZE[0] and 0 <= column < SIZE[1]):
                    continue
                for key, weight in CODE_WEIGHTS.items():
                    for d in range(WIDTHS[key]):
                        total += weight * abs((ours[key] - theirs[key])[b, d, row, column].item())
                count += 1
        per_task.append(total / max(count, 1))
        first += classes
    return sum(per_task) / len(per_task)


def test_equals_the_formula() -> None:
    value = CenterRegression(weights=CODE_WEIGHTS)(heads(0), heads(1), step=step(*TWO_SAMPLES)).item()
    assert value == pytest.approx(published(TWO_SAMPLES), rel=1e-12)


@pytest.mark.parametrize('compat', [True, False])
def test_centres_outside_count_at_the_border_as_published_or_not_at_all(compat: bool) -> None:
    loss = CenterRegression(weights=CODE_WEIGHTS, compat=compat)
    value = loss(heads(0), heads(1), step=step(*SOME_OUTSIDE)).item()
    assert value == pytest.approx(published(SOME_OUTSIDE, compat), rel=1e-12)


def test_gradcheck() -> None:
    student, teacher = heads(0, 1, (4, 5)), heads(1, 1, (4, 5))
    world = half_step(step(*TWO_SAMPLES), 0)

    def value(dim: Tensor, rot: Tensor) -> Tensor:
        ours = [{**student[0], 'dim': dim, 'rot': rot}, student[1]]
        return CenterRegression()(ours, teacher, step=world)

    assert torch.autograd.gradcheck(value, [student[0][key].requires_grad_() for key in ('dim', 'rot')])


def test_zero_when_student_equals_teacher() -> None:
    assert CenterRegression()(heads(1), heads(1), step=step(*TWO_SAMPLES)).item() == 0.0


def test_batch_of_two_is_two_singles_weighed_by_their_boxes() -> None:
    student, teacher = heads(0, tasks=(3,)), heads(1, tasks=(3,))
    world = step([[(2.5, 0.2), (7.1, -2.9), (3.0, 3.0)], [(5.5, 1.5)]], [[0, 2, 1], [1]])
    loss = CenterRegression()
    first, second = (
        loss(half(student, i), half(teacher, i), step=half_step(world, i)).item() for i in range(2)
    )
    assert loss(student, teacher, step=world).item() == pytest.approx((3 * first + second) / 4, rel=1e-12)


@pytest.mark.parametrize('places', [[[], []], [[(-5.0, 0.0)], [(5.0, 4.5)]]], ids=['no boxes', 'outside'])
def test_no_centres_give_exactly_zero_with_a_live_graph(places: list) -> None:
    student = heads(0)
    for head in student:
        head['dim'].requires_grad_()
    labels = [[0] * len(sample) for sample in places]
    loss = CenterRegression()(student, heads(1), step=step(places, labels))
    loss.backward()
    assert loss.item() == 0.0
    assert all(head['dim'].grad.abs().max() == 0 for head in student)


def test_a_range_of_the_recipes_own() -> None:
    """For detectors that cover less than their data."""
    student, teacher, world = heads(0), heads(1), step(*TWO_SAMPLES)
    expected = CenterRegression()(student, teacher, step=world).item()
    world.batch['img_metas'] = [{}, {}]
    assert CenterRegression(PC_RANGE)(student, teacher, step=world).item() == expected


def test_velocity_counts_where_both_have_it() -> None:
    student, teacher, world = heads(0), heads(1), step(*TWO_SAMPLES)
    without = CenterRegression()(student, teacher, step=world).item()
    for head, value in [*((h, 0.0) for h in student), *((h, 1.0) for h in teacher)]:
        head['vel'] = torch.full_like(head['reg'], value)
    # Two velocities of difference 1 and weight 0.2 at every box.
    assert CenterRegression()(student, teacher, step=world).item() == pytest.approx(without + 0.4)


def test_other_grid_and_unknown_head_are_clear() -> None:
    with pytest.raises(ValueError, match=r"heatmap is \(4, 5\) and the teacher's \(8, 10\)"):
        CenterRegression()(heads(0, size=(4, 5)), heads(1), step=step(*TWO_SAMPLES))
    with pytest.raises(ValueError, match="no head 'size'; known: reg, height"):
        CenterRegression(weights={'size': 1.0})

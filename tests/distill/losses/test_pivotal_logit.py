"""SparseKD's pivotal-position logits against the paper's formula, written out cell by cell."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.pivotal_logit import PivotalLogit
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.center_world import PC_RANGE, SIZE, TASKS, TWO_SAMPLES, Heads, half, half_step, heads, step


def probability(logit: float) -> float:
    return min(max(1 / (1 + math.exp(-logit)), 1e-4), 1 - 1e-4)


def inside(box: list[float]) -> bool:
    return all(PC_RANGE[i] <= box[i] < PC_RANGE[i + 3] for i in range(2))


def gaussian(box: list[float], row: int, column: int, min_overlap: float = 0.1) -> float:
    """CenterPoint's target at one cell of 1 m for one box: sigma a sixth of the diameter, cut to a square.

    A centre from outside is moved to the nearest cell of the border.
    """
    x, y, _, l, w = box[:5]
    a = ((1.0, l + w, l * w * (1 - min_overlap) / (1 + min_overlap)),
         (4.0, 2 * (l + w), l * w * (1 - min_overlap)),
         (4 * min_overlap, -2 * min_overlap * (l + w), l * w * (min_overlap - 1)))  # fmt: skip
    radius = max(2, int(min((b + math.sqrt(b * b - 4 * k * c)) / 2 for k, b, c in a)))
    centre = (math.floor(place - corner) for place, corner in zip((x, y), PC_RANGE, strict=False))
    own_column, own_row = (min(max(c, 0), count - 1) for c, count in zip(centre, SIZE[::-1], strict=True))
    dx, dy = column - own_column, row - own_row
    if max(abs(dx), abs(dy)) > radius:
        return 0.0
    sigma = (2 * radius + 1) / 6
    return math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))


def published(loss: PivotalLogit, student: Heads, teacher: Heads, world: Step) -> float:
    """``sum w sum_c (p_S - p_T)^2 / (sum w + 1e-6)``, mean over tasks, one cell after the other."""
    first, per_task = 0, []
    for ours, theirs, classes in zip(student, teacher, TASKS, strict=True):
        above = weights = 0.0
        for b in range(len(theirs['heatmap'])):
            p_t = [[[probability(v) for v in row] for row in c] for c in theirs['heatmap'][b].tolist()]
            p_s = [[[probability(v) for v in row] for row in c] for c in ours['heatmap'][b].tolist()]
            boxes = [
                box
                for box, label in zip(
                    world.batch['gt_bboxes_3d'][b].tolist(),
                    world.batch['gt_labels_3d'][b].tolist(),
                    strict=True,
                )
                if first <= label < first + classes and (loss.compat or inside(box))
            ]
            cells = [(y, x) for y in range(SIZE[0]) for x in range(SIZE[1])]
            sure = {(y, x): max(p_t[c][y][x] for c in range(classes)) for y, x in cells}
            best = sorted(cells, key=lambda cell: -sure[cell])[: loss.top_k]
            for y, x in cells:
                kept = sure[y, x] > loss.threshold and (loss.mask != 'rank' or (y, x) in best)
                w = (sure[y, x] if loss.soft else 1.0) * kept
                if loss.mask == 'gaussian':
                    drawn = max([gaussian(box, y, x) for box in boxes], default=0.0)
                    w *= float(drawn > 0) if loss.compat and not loss.soft else drawn
                above += w * sum((p_s[c][y][x] - p_t[c][y][x]) ** 2 for c in range(classes))
                weights += w
        per_task.append(above / (weights + 1e-6))
        first += classes
    return sum(per_task) / len(per_task)


@pytest.mark.parametrize('mask', ['gaussian', 'confidence', 'rank'])
@pytest.mark.parametrize('soft', [True, False])
@pytest.mark.parametrize('threshold', [0.0, 0.6])
def test_equals_the_papers_formula(mask: str, soft: bool, threshold: float) -> None:
    loss = PivotalLogit(mask=mask, soft=soft, threshold=threshold, top_k=7)
    student, teacher, world = heads(0), heads(1), step(*TWO_SAMPLES)
    value = loss(student, teacher, step=world).item()
    assert value == pytest.approx(published(loss, student, teacher, world), rel=1e-5)


# Left, right and below of the range, and at a corner.
SOME_OUTSIDE = ([[(2.5, 0.2), (-3.0, 1.5)], [(5.5, 4.7), (12.2, -6.3), (1.2, 3.3)]], [[0, 2], [1, 0, 0]])


@pytest.mark.parametrize('soft', [True, False])
@pytest.mark.parametrize('compat', [True, False])
@pytest.mark.parametrize('threshold', [0.0, 0.6])
def test_centres_outside_and_hard_gaussians_as_published(soft: bool, compat: bool, threshold: float) -> None:
    loss = PivotalLogit(soft=soft, compat=compat, threshold=threshold)
    student, teacher, world = heads(0), heads(1), step(*SOME_OUTSIDE)
    value = loss(student, teacher, step=world).item()
    assert value == pytest.approx(published(loss, student, teacher, world), rel=1e-5)


def test_compat_weighs_1_where_a_gaussian_meets_a_sure_teacher() -> None:
    sure, limit = heads(1)[1]['heatmap'].sigmoid(), 0.6
    boxes = torch.tensor([[2.5, 0.2, -1.0, 2.0, 1.0, 1.5, 0.3], [-3.0, 3.5, -1.0, 2.0, 1.0, 1.5, 0.3]])
    weight = PivotalLogit(soft=False, compat=True, threshold=limit).weight(
        sure, boxes, torch.tensor([0, 1]), PC_RANGE
    )
    for b, box in enumerate(boxes.tolist()):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                expected = gaussian(box, y, x) > 0 and sure[b, :, y, x].max() > limit
                assert weight[b, 0, y, x].item() == float(expected), (b, y, x)
    assert weight.sum(dim=(1, 2, 3)).gt(0).all()


@pytest.mark.parametrize('size', [(4, 5), (2, 3)])
def test_gradcheck(size: tuple[int, int]) -> None:
    student, teacher = heads(0, 1, size), heads(1, 1, (4, 5))
    world = half_step(step(*TWO_SAMPLES), 0)

    def value(*maps: Tensor) -> Tensor:
        return PivotalLogit()([{'heatmap': m} for m in maps], teacher, step=world)

    assert torch.autograd.gradcheck(value, [head['heatmap'].requires_grad_() for head in student])


@pytest.mark.parametrize('mask', ['gaussian', 'confidence', 'rank'])
def test_zero_when_student_equals_teacher(mask: str) -> None:
    teacher = heads(1)
    assert PivotalLogit(mask=mask)(teacher, teacher, step=step(*TWO_SAMPLES)).item() == 0.0


def test_gradient_exists_at_pivotal_cells_only() -> None:
    student, teacher, world = heads(0), heads(1), step(*TWO_SAMPLES)
    student[0]['heatmap'].requires_grad_()
    loss = PivotalLogit(mask='rank', top_k=3)
    loss(student, teacher, step=world).backward()
    changed = student[0]['heatmap'].grad.abs().amax(1) > 0
    best = teacher[0]['heatmap'].amax(1).flatten(1).topk(3).indices
    assert all(
        set(changed[i].flatten().nonzero().flatten().tolist()) == set(best[i].tolist()) for i in range(2)
    )


def test_batch_of_two_is_two_singles_weighed_by_their_pivotal_mass() -> None:
    """The published normaliser is one for the batch."""
    student, teacher, world = heads(0, tasks=(3,)), heads(1, tasks=(3,)), step(*TWO_SAMPLES)
    loss, above, mass = PivotalLogit(mask='confidence'), 0.0, 0.0
    for i in range(2):
        weight = teacher[0]['heatmap'][i].sigmoid().amax(0).sum().item()
        above += weight * loss(half(student, i), half(teacher, i), step=half_step(world, i)).item()
        mass += weight
    assert loss(student, teacher, step=world).item() == pytest.approx(above / mass, rel=1e-6)


def test_no_objects_give_exactly_zero_with_a_live_graph() -> None:
    student, teacher = heads(0), heads(1)
    for head in student:
        head['heatmap'].requires_grad_()
    loss = PivotalLogit()(student, teacher, step=step([[], []], [[], []]))
    loss.backward()
    assert loss.item() == 0.0
    assert all(head['heatmap'].grad.abs().max() == 0 for head in student)


def test_more_cells_than_there_are() -> None:
    loss = PivotalLogit(mask='rank', top_k=10_000)
    other = PivotalLogit(mask='confidence')
    student, teacher, world = heads(0), heads(1), step(*TWO_SAMPLES)
    assert loss(student, teacher, step=world).item() == other(student, teacher, step=world).item()


def test_coarser_student_is_resized_bilinearly() -> None:
    student, teacher, world = heads(0, size=(4, 5)), heads(1), step(*TWO_SAMPLES)
    resized = []
    for head in student:
        large = F.interpolate(head['heatmap'].sigmoid(), size=SIZE, mode='bilinear', align_corners=False)
        resized.append({'heatmap': large.logit()})
    loss = PivotalLogit()
    expected = loss(resized, teacher, step=world).item()
    assert loss(student, teacher, step=world).item() == pytest.approx(expected, rel=1e-9)


def test_ranges_that_differ_are_aligned_in_metres() -> None:
    """The student covers one cell less on three sides and sees the same things at the same places."""
    teacher, world = heads(1), step(*TWO_SAMPLES)
    student = [{'heatmap': head['heatmap'][..., 1:-1, 1:]} for head in teacher]
    inner = [1.0, -3.0, -3.0, 10.0, 3.0, 1.0]
    loss = PivotalLogit(inner, PC_RANGE, mask='confidence')
    assert loss(student, teacher, step=world).item() == pytest.approx(0.0, abs=1e-12)
    assert PivotalLogit(mask='confidence')(student, teacher, step=world).item() > 1e-3
    world.batch['img_metas'] = [{'pc_range': inner}] * 2
    assert PivotalLogit(None, PC_RANGE, mask='confidence')(student, teacher, step=world).item() < 1e-12


def test_extreme_logits_stay_finite() -> None:
    teacher = [{'heatmap': torch.full((2, count, *SIZE), 200.0)} for count in TASKS]
    student = [{'heatmap': torch.full((2, count, *SIZE), -200.0, requires_grad=True)} for count in TASKS]
    loss = PivotalLogit()(student, teacher, step=step(*TWO_SAMPLES))
    loss.backward()
    # (1 - 2e-4)^2 per class: 1 class in the first task, 2 in the second.
    assert loss.item() == pytest.approx(1.5 * (1 - 2e-4) ** 2, rel=1e-4)
    assert all(head['heatmap'].grad.isfinite().all() for head in student)


def test_other_tasks_are_a_clear_error() -> None:
    with pytest.raises(
        ValueError, match=r"the student's tasks have \[3\] classes and the teacher's \[1, 2\]"
    ):
        PivotalLogit()(heads(0, tasks=(3,)), heads(1), step=step(*TWO_SAMPLES))


@pytest.mark.parametrize('changes', [{'mask': 'gauss'}, {'top_k': 0}])
def test_settings_without_sense_are_clear(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match='must be'):
        PivotalLogit(**changes)

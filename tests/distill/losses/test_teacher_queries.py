"""The teacher's boxes as targets of a student's queries."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.box_codec import encode_boxes
from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.losses.teacher_queries import TeacherQueries
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.regions.lidar_boxes import lidar_boxes

LIMITS = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]
TRUTH = [[1.0, 2.0, 0, 4, 2, 1.5, 0.0], [-3.0, -3.0, 0, 1, 1, 1.8, 1.0]]
FOUND = [[1.0, 3.0, 0.1, 4, 2, 1.5, 0.0], [-3.0, -3.0, 0, 1, 1, 1.8, 1.0], [6.0, 6.0, 0, 1, 1, 1, 0.0]]
SCORES, LABELS = [0.9, 0.6, 0.8], [0, 1, 0]
QUALITY = [math.sqrt(0.9 / 3), math.sqrt(0.6), 0.0]  # IoU of the first: one of two metres overlaps


def step(found: list = FOUND, samples: int = 1, width: int = 9) -> Step:
    detections = Detections(
        lidar_boxes(found, width),
        torch.tensor(SCORES[: len(found)]),
        torch.tensor(LABELS[: len(found)]).long(),
    )
    batch = dict(
        img_metas=[[dict(pc_range=LIMITS)]] * samples,
        gt_bboxes_3d=[torch.tensor(TRUTH)] * samples,
        gt_labels_3d=[torch.tensor([0, 1])] * samples,
    )
    return Step(batch, {}, {}, cache={'detections': [detections] * samples})


def queries(samples: int = 1, count: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    make = {'scores': 2, 'codes': 10}
    return {
        key: torch.randn(2, samples, count, width, generator=generator, dtype=torch.float64).requires_grad_()
        for key, width in make.items()
    }


def naive_pair(scores: Tensor, codes: Tensor, box: int, box_weight: float) -> float:
    """What one query pays for one box."""
    total = 0.0
    for k in range(2):
        p = 1 / (1 + math.exp(-scores[k].item()))
        q = QUALITY[box] if LABELS[box] == k else 0.0
        total -= (q - p) ** 2 * (q * math.log(p) + (1 - q) * math.log(1 - p))
    target = encode_boxes(torch.tensor([*FOUND[box], 1.0, 2.0], dtype=torch.float64), 'v1.0')
    weights = [1.0] * 8 + [0.2] * 2
    gap = sum(w * abs(c.item() - t.item()) for w, c, t in zip(weights, codes, target, strict=True))
    return total + box_weight * QUALITY[box] * gap


def test_equals_the_formula() -> None:
    loss, student = TeacherQueries(box_weight=0.25), queries()
    targets = encode_boxes(torch.tensor([[*box, 1.0, 2.0] for box in FOUND], dtype=torch.float64), 'v1.0')
    expected = 0.0
    for layer in range(2):
        scores, codes = student['scores'][layer, 0].detach(), student['codes'][layer, 0].detach()
        cost = loss.assigner.cost(scores, codes, torch.tensor(LABELS), targets)
        best = min(
            itertools.permutations(range(4), 3),
            key=lambda q: sum(cost[query, box] for box, query in enumerate(q)),
        )
        pairs = [naive_pair(scores[query], codes[query], box, 0.25) for box, query in enumerate(best)]
        expected += sum(pairs) / max(sum(QUALITY), 1) / 2
    assert loss(student, step=step()).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_right_and_two_samples_are_two_of_one() -> None:
    loss, student = TeacherQueries(power=1.0), queries(2)
    both = loss(student, step=step(samples=2))
    halves = [
        loss({key: value[:, i : i + 1] for key, value in student.items()}, step=step()) for i in range(2)
    ]
    torch.testing.assert_close(both, sum(halves) / 2)
    loss = TeacherQueries(power=1.0, class_weight=0.0, layers=1)  # the weight of a surprise is a constant
    scores, codes = (value.detach() for value in queries(count=3).values())
    assert torch.autograd.gradcheck(
        lambda part: loss(dict(scores=scores[-1:], codes=part), step=step()), codes[-1:].requires_grad_()
    )


def test_a_box_that_fits_no_ground_truth_teaches_nothing_but_its_doubt() -> None:
    student, false = queries(), FOUND[2:]
    loss = TeacherQueries(class_weight=0.0)
    assert loss(student, step=step(false)).item() == 0
    assert TeacherQueries(class_weight=0.0, power=1.0)(student, step=step(false)) > 0


def test_nothing_found_is_zero_with_a_live_graph() -> None:
    for found in ([], [[20.0, 0, 0, 1, 1, 1, 0]]):
        student = queries()
        loss = TeacherQueries()(student, step=step(found))
        assert loss.item() == 0
        loss.backward()
        assert student['codes'].grad.abs().sum() == 0


def test_a_teacher_without_velocity_leaves_velocities_alone() -> None:
    student = queries()
    TeacherQueries()(student, step=step(width=7)).backward()
    assert not student['codes'].grad[..., 8:].any()
    assert student['codes'].grad[..., :8].any()
    assert student['codes'].grad.isfinite().all()


def test_a_student_that_says_what_the_teacher_says_pays_nothing() -> None:
    found = [[*box] for box in TRUTH]
    codes = encode_boxes(torch.tensor([[*box, 1.0, 2.0] for box in found]), 'v1.0').expand(2, 1, 2, 10)
    quality = torch.tensor([0.9, 0.6]).sqrt()
    scores = torch.full((2, 1, 2, 2), -30.0)
    for i in range(2):
        scores[:, :, i, i] = torch.logit(quality[i])
    assert TeacherQueries()(dict(scores=scores, codes=codes), step=step(found)).item() == pytest.approx(
        0, abs=1e-5
    )


def test_fewer_queries_than_boxes_and_fewer_layers() -> None:
    assert TeacherQueries(layers=1)(queries(count=2), step=step()).isfinite()
    with pytest.raises(ValueError, match='power must lie'):
        TeacherQueries(power=2.0)

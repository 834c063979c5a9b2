"""Box keypoints against the formulas of UniDistill and TiG-BEV, written out one number after the other."""

import math

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.losses.box_keypoints import COMPARE, BoxKeypoints, unit_points
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.regions.lidar_boxes import lidar_boxes

LIMITS = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]
BOXES = ([[1.3, -2.2, 0, 4, 2, 1.5, 0.4], [-3.1, 3.3, 0, 2, 1, 1.5, 2.0]], [[0.2, 4.1, 0, 1, 1, 1.5, 0.0]])


def step(boxes: tuple = BOXES) -> Step:
    tensors = [torch.tensor(sample, dtype=torch.float32).view(-1, 7) for sample in boxes]
    labels = [torch.zeros(len(sample), dtype=torch.long) for sample in boxes]
    metas = [[dict(pc_range=LIMITS)]] * len(boxes)
    return Step(dict(img_metas=metas, gt_bboxes_3d=tensors, gt_labels_3d=labels), {}, {})


def one(whole: Step, i: int) -> Step:
    return Step({key: value[i : i + 1] for key, value in whole.batch.items()}, {}, {})


def maps(channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64)


def look_up(feature: Tensor, x: float, y: float) -> list[float]:
    """Bilinear look-up of one sample's map (C, H, W) at metres, 0 outside."""
    c, h, w = feature.shape
    u, v = (x - LIMITS[0]) / 16 * w - 0.5, (y - LIMITS[1]) / 16 * h - 0.5
    total = [0.0] * c
    for column in (math.floor(u), math.floor(u) + 1):
        for row in (math.floor(v), math.floor(v) + 1):
            if 0 <= column < w and 0 <= row < h:
                share = (1 - abs(u - column)) * (1 - abs(v - row))
                total = [t + share * feature[k, row, column].item() for k, t in enumerate(total)]
    return total


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def naive(student: list[list[float]], teacher: list[list[float]], compare: str) -> float:
    """Distance between the points' features of one box."""
    n = len(student)
    if compare == 'features':
        gaps = [abs(s - t) for a, b in zip(student, teacher, strict=True) for s, t in zip(a, b, strict=True)]
        return sum(gaps) / len(gaps)
    if compare == 'cosines':
        pairs = [(i, j) for i in range(n) for j in range(n)]
        ours, theirs = ([unit(row) for row in part] for part in (student, teacher))
        return sum(abs(dot(ours[i], ours[j]) - dot(theirs[i], theirs[j])) for i, j in pairs) / n**2
    if compare == 'channels':
        student, teacher = (
            [list(column) for column in zip(*part, strict=True)] for part in (student, teacher)
        )
    grams = [[unit([dot(a, b) for b in part]) for a in part] for part in (student, teacher)]
    rows = zip(*grams, strict=True)
    return sum(sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) for a, b in rows) / len(student)


@pytest.mark.parametrize('compare', COMPARE)
def test_equals_the_formula(compare: str) -> None:
    student, teacher = maps(), maps(size=32, seed=1)
    expected = 0.0
    for i, sample in enumerate(BOXES):
        values = []
        for x, y, _, length, width, _, yaw in sample:
            points = []
            for along in (-1, 0, 1):
                for across in (-1, 0, 1):
                    a, b = along * (length / 2 + 0.5), across * (width / 2 + 0.5)
                    points.append(
                        (x + a * math.cos(yaw) - b * math.sin(yaw), y + a * math.sin(yaw) + b * math.cos(yaw))
                    )
            ours, theirs = ([look_up(part[i], *point) for point in points] for part in (student, teacher))
            values.append(naive(ours, theirs, compare))
        expected += sum(values) / len(values) / len(BOXES)
    assert BoxKeypoints(compare=compare, margin=0.5)(student, teacher, step=step()).item() == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize('compare', COMPARE)
def test_gradients_are_right_and_two_samples_are_two_of_one(compare: str) -> None:
    loss, world = BoxKeypoints((2, 3), compare), step()
    student, teacher = maps(2, 4).requires_grad_(), maps(2, 4, 1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, step=world), student, atol=1e-4)
    halves = [loss(student[i : i + 1], teacher[i : i + 1], step=one(world, i)) for i in range(2)]
    torch.testing.assert_close(loss(student, teacher, step=world), sum(halves) / 2)
    assert loss(teacher, teacher, step=world).item() == pytest.approx(0, abs=1e-12)


def test_nothing_to_compare_is_zero_with_a_live_graph() -> None:
    student = maps().requires_grad_()
    for boxes in (([], []), ([[20.0, 0, 0, 2, 1, 1, 0]], [])):
        loss = BoxKeypoints()(student, maps(seed=1), step=step(boxes))
        assert loss.item() == 0
        loss.backward()
        assert student.grad.abs().sum() == 0


def test_relations_need_no_equal_channels_and_no_equal_cells() -> None:
    student, teacher = maps(3), maps(5, 32, 1)
    for compare in ('cosines', 'keypoints'):
        assert BoxKeypoints(compare=compare)(student, teacher, step=step()) > 0
    with pytest.raises(DistillError, match='give the term a connector'):
        BoxKeypoints(compare='channels')(student, teacher, step=step())


def test_only_the_box_counts_and_a_gate_weighs_it() -> None:
    """A change of the map outside the boxes is not seen; a box that the teacher overlooks does not count."""
    teacher, world = maps(seed=1), step((BOXES[0], []))
    student = teacher.clone()
    student[0, :, 12:, 12:] += 1
    assert BoxKeypoints(compare='features')(student, teacher, step=world).item() == 0
    boxes = lidar_boxes([BOXES[0][0]])
    world.cache['detections'] = [
        Detections(boxes, torch.tensor([0.9]), torch.tensor([0])),
        Detections(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.long)),
    ]
    student = maps()
    gated = BoxKeypoints(source='gt_boxes', gate=1.0)(student, teacher, step=world)
    seen = BoxKeypoints()(student, teacher, step=step((BOXES[0][:1], [])))
    torch.testing.assert_close(gated, seen, rtol=1e-3, atol=0)  # the other object lies metres away


def test_points_are_spread_over_the_box() -> None:
    assert unit_points(9).tolist()[0] == [-1, -1]
    assert unit_points((2, 1)).tolist() == [[-0.5, 0], [0.5, 0]]
    for wrong in (8, (0, 3)):
        with pytest.raises(ValueError, match='points must be 9 or a grid'):
            BoxKeypoints(wrong)

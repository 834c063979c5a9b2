"""DistillBEV's regions and weights, cell by cell."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.losses.region_balanced import RegionBalanced
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.regions.lidar_boxes import lidar_boxes

LIMITS = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]
SEEN, MISSED = [-4.0, -4.0, 0, 4, 2, 1, 0.0], [4.0, 4.0, 0, 2, 2, 1, 0.0]


def logits(*peaks: tuple[int, int, int]) -> Tensor:
    """Heatmap logits of one sample, (1, 2, 16, 16), high at (class, row, column)."""
    heat = torch.full((1, 2, 16, 16), -9.0, dtype=torch.float64)
    for peak in peaks:
        heat[0][peak] = 3.0
    return heat


def step(heat: Tensor, samples: int = 1, boxes: bool = True) -> Step:
    """Cars at SEEN and MISSED."""
    truth = torch.tensor([SEEN, MISSED] if boxes else []).view(-1, 7)
    batch = dict(
        img_metas=[[dict(pc_range=LIMITS)]] * samples,
        gt_bboxes_3d=[truth] * samples,
        gt_labels_3d=[torch.zeros(len(truth), dtype=torch.long)] * samples,
    )
    return Step(batch, {}, {}, predictions=[{'heatmap': heat[:, :1]}, {'heatmap': heat[:, 1:]}])


HEAT = logits((0, 4, 4), (1, 12, 12), (0, 12, 2))  # the car; the other one as another class; nothing there


def test_regions_are_what_the_teacher_does_right_and_wrong() -> None:
    right, missed, wrong, rest = RegionBalanced().regions(step(HEAT), torch.zeros(1, 3, 16, 16))
    assert (right > 0).nonzero()[:, 2:].tolist() == [[row, x] for row in (3, 4) for x in (2, 3, 4, 5)]
    assert right[right > 0].tolist() == pytest.approx([8**-0.5] * 8), (
        'adaptive scaling: area 8 m2, cells of 1 m2'
    )
    assert (missed > 0).nonzero()[:, 2:].tolist() == [[11, 11], [11, 12], [12, 11], [12, 12]]
    assert missed[missed > 0].tolist() == pytest.approx([0.5] * 4)
    assert wrong.nonzero()[:, 2:].tolist() == [[12, 2]], (
        'where there is an object, its class is no false alarm'
    )
    assert ((right > 0).int() + (missed > 0) + wrong + rest == 1).all(), 'every cell is of one kind'


def test_every_region_counts_by_its_mean_whatever_its_area() -> None:
    """A distance of 1 everywhere costs the sum of the weights, at every size of map."""
    for size in (16, 32):
        loss = RegionBalanced(1.0, 0.5, 0.25, 0.125, attention='none')
        zero = torch.zeros(1, 3, size, size, dtype=torch.float64)
        assert loss(zero + 1, zero, step=step(HEAT)).item() == pytest.approx(1.875, abs=0.02)


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 3, 16, 16, dtype=torch.float64).unbind(0)
    loss, world = RegionBalanced(1.0, 0.7, 0.4, 0.2, attention='both'), step(HEAT)
    attention = [
        (feature.abs().mean(1) / 0.5).flatten().softmax(0).view(16, 16) * 256
        for feature in (student, teacher)
    ]
    expected = 0.0
    for factor, region in zip((1.0, 0.7, 0.4, 0.2), loss.regions(world, teacher), strict=True):
        total, area = 0.0, 0.0
        for row in range(16):
            for column in range(16):
                weight = region[0, 0, row, column].item()
                square = (student - teacher)[0, :, row, column].square().sum().item() / 3
                total += weight * square * (attention[0] + attention[1])[row, column].item() / 2
                area += weight
        expected += factor * total / max(area, 1)
    assert loss(student, teacher, step=world).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_right_and_two_samples_are_two_of_one() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 2, 16, 16, dtype=torch.float64).unbind(0)
    heat = torch.cat([HEAT, logits()])
    loss = RegionBalanced(attention_weight=0.3).double()
    whole = loss(student, teacher, step=step(heat, 2))
    halves = [loss(student[i : i + 1], teacher[i : i + 1], step=step(heat[i : i + 1])) for i in range(2)]
    torch.testing.assert_close(whole, sum(halves) / 2)
    small, like = student[:1, :, :4, :4].clone().requires_grad_(), teacher[:1, :, :4, :4]
    assert torch.autograd.gradcheck(
        lambda s: loss(s, like, step=step(HEAT)), small, atol=1e-6, rtol=1e-3, fast_mode=True
    )


def test_without_objects_and_heat_the_rest_is_compared() -> None:
    student = torch.ones(1, 2, 16, 16, requires_grad=True)
    loss = RegionBalanced(true_negative=0.5, attention='none')(
        student, torch.zeros(1, 2, 16, 16), step=step(logits(), boxes=False)
    )
    assert loss.item() == pytest.approx(0.5)
    loss.backward()
    assert student.grad.any()


def test_boxes_stand_in_for_a_teacher_without_heatmaps() -> None:
    world = step(HEAT)
    world.predictions = {'all_cls_scores': torch.zeros(1)}
    like = torch.zeros(1, 3, 16, 16)
    with pytest.raises(DistillError, match="take its boxes instead, with heat='boxes'"):
        RegionBalanced().regions(world, like)
    boxes = lidar_boxes([SEEN, [4.0, -4.0, *SEEN[2:]]])
    world.cache['detections'] = [Detections(boxes, torch.tensor([0.9, 0.5]), torch.tensor([0, 1]))]
    right, missed, wrong, _ = RegionBalanced(heat='boxes').regions(world, like)
    assert right[0, 0, 4, 4] > 0
    assert missed[0, 0, 12, 12] > 0
    assert wrong[0, 0, 4, 12] == 1


def test_heat_of_another_range_is_brought_to_what_is_compared() -> None:
    """The term that compares a part of the teacher's map cuts its heat alike."""
    world = step(HEAT)
    world.align = lambda heat: heat[..., 2:6, 2:6]
    right, *_ = RegionBalanced().regions(world, torch.zeros(1, 1, 4, 4))
    assert world.align(torch.zeros(1, 1, 16, 16)).shape[-1] == 4
    assert right.shape == (1, 1, 4, 4)


def test_mistakes_are_clear() -> None:
    for wrong in (dict(heat='x'), dict(attention='x'), dict(true_positive=-1.0), dict(threshold=0.0)):
        with pytest.raises(ValueError, match=r'must be|weights must'):
            RegionBalanced(**wrong)

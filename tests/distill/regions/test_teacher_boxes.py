"""Final boxes of a teacher as instances, and the gate that trusts them as far as ground truth agrees."""

import math

import pytest
import torch

from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.regions.bev_footprint import BEVFootprint
from projects.mmdet3d_plugin.distill.regions.instances import InstanceSource
from projects.mmdet3d_plugin.distill.regions.teacher_boxes import box_agreement, teacher_boxes
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.regions.lidar_boxes import lidar_boxes

LIMITS = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]
CPU = torch.device('cpu')
NEAR, FAR, FALSE = ([2.0, 1.0, 0.5, 2, 2, 1, 0.3], [-4.0, -4.0, 0.5, 2, 2, 1, 0], [5.0, -5.0, 0, 2, 2, 1, 0])


def step() -> Step:
    """Two samples: objects at NEAR and FAR; the teacher finds NEAR 1 m off, and something false; nothing in the second."""
    found = Detections(
        lidar_boxes([FALSE, [3.0, *NEAR[1:]]], 7), torch.tensor([0.3, 0.8]), torch.tensor([1, 1])
    )
    none = Detections(lidar_boxes([], 7), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    batch = dict(
        img_metas=[dict(pc_range=LIMITS)] * 2,
        gt_bboxes_3d=[torch.tensor([NEAR, FAR]), torch.tensor([NEAR])],
        gt_labels_3d=[torch.tensor([1, 1]), torch.tensor([1])],
    )
    return Step(batch, {}, {}, cache={'detections': [found, none]})


def test_boxes_come_best_first_with_what_is_unknown() -> None:
    found = teacher_boxes(step(), CPU, 10, 0.1)
    assert found.scores.tolist() == pytest.approx([0.8, 0.3])
    assert found.sample.tolist() == [0, 0]
    torch.testing.assert_close(found.boxes[0, :7], torch.tensor([3.0, *NEAR[1:]]))
    assert found.boxes[:, 7:].isnan().all()
    assert len(teacher_boxes(step(), CPU, 1, 0.1).boxes) == 1
    assert len(teacher_boxes(step(), CPU, 10, 0.5).boxes) == 1


def test_agreement_is_in_class_and_place() -> None:
    world = step()
    truth, boxes = box_agreement(world, teacher_boxes(world, CPU, 10, 0.1), 2.0)
    near = 0.8 * math.exp(-1 / 2)
    assert truth.tolist() == pytest.approx([near, 0.8 * math.exp(-math.hypot(7, 5) / 2), 0])
    assert boxes[0].item() == pytest.approx(near)
    assert boxes[1] < 0.03
    world.batch['gt_labels_3d'] = [torch.tensor([0, 0]), torch.tensor([0])]
    assert not box_agreement(world, teacher_boxes(world, CPU, 10, 0.1), 2.0)[0].any()


@pytest.mark.parametrize(('source', 'count'), [('boxes', 2), ('gt_boxes', 5)])
def test_boxes_are_instances_without_a_distillation_head(source: str, count: int) -> None:
    region = BEVFootprint(source=source)
    assert not region.needs_queries
    assert not BEVFootprint(source=source, gate=2.0).needs_queries
    assert len(InstanceSource(source)(step(), CPU).boxes) == count
    drawn = region(step(), torch.zeros(2, 1, 16, 16))
    assert drawn[0, 0, 3, 13] == 1, 'the false object'
    assert drawn[1].any() == (source == 'gt_boxes')


def test_a_gate_hides_what_is_false_and_trusts_the_background_less_where_the_teacher_sees_something() -> None:
    region, like = BEVFootprint(source='boxes', gate=2.0), torch.zeros(2, 1, 16, 16)
    assert region(step(), like)[0, 0, 3, 13] < 0.03
    background = region.background(step(), like)
    assert background[0, 0, 3, 13].item() == pytest.approx(0.7)
    assert background[1].min() == 1

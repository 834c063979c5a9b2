"""Regions made of instances: weights inside, the teacher's doubt outside."""

import torch

from projects.mmdet3d_plugin.distill.regions.bev_footprint import BEVFootprint
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.readings import reading

RANGE = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]
LIKE = torch.zeros(1, 4, 16, 16)


def step() -> Step:
    """Ground truth at (-4, -4); the teacher sees it with 0.5, and something at (4, 4) with 0.75."""
    boxes = torch.zeros(1, 2, 7)
    boxes[..., 3:6] = 4.0
    gt = [boxes[0, :1].clone() - torch.tensor([4.0, 4, 0, 0, 0, 0, 0])]
    boxes[0, 0, :2], boxes[0, 1, :2] = -4.0, 4.0
    batch = {
        'gt_bboxes_3d': gt,
        'gt_labels_3d': [torch.tensor([0])],
        'img_metas': [[{'pc_range': RANGE}]],
    }
    return Step(batch, {}, {}, queries=reading(boxes, torch.tensor([[[0.5], [0.75]]])))


def test_each_source_draws_its_boxes() -> None:
    near, far = (slice(2, 6), slice(10, 14))
    gt = BEVFootprint(source='gt')(step(), LIKE)[0, 0]
    assert (gt[near, near] == 1).all()
    assert gt.sum() == 16
    queries = BEVFootprint(source='queries', top_k=1)(step(), LIKE)[0, 0]
    assert (queries[far, far] == 1).all()
    assert queries.sum() == 16
    both = BEVFootprint(source='both')(step(), LIKE)[0, 0]
    torch.testing.assert_close(both, torch.maximum(gt, BEVFootprint(source='queries')(step(), LIKE)[0, 0]))


def test_gate_fades_what_the_teacher_gets_wrong() -> None:
    region = BEVFootprint(source='both', gate=1.0)
    weights = region(step(), LIKE)[0, 0]
    assert weights[3, 3].item() == 0.5
    assert weights[11, 11].item() < 1e-3
    assert weights[0, 0].item() == 0.0
    background = region.background(step(), LIKE)[0, 0]
    assert background[0, 0].item() == 1.0
    assert background[11, 11].item() == 0.25


def test_without_a_gate_the_background_is_plain() -> None:
    assert BEVFootprint(source='queries').background(step(), LIKE) is None

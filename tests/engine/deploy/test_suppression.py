"""Non-maximum suppression that a graph can hold, beside mmdet3d's."""

import numpy as np
import pytest
import torch
from mmdet3d.core import xywhr2xyxyr
from mmdet3d.core.post_processing.box3d_nms import circle_nms, nms_bev
from torch import Tensor

from projects.mmdet3d_plugin.engine.deploy.suppression import rotated_iou, suppress_close, suppress_rotated
from projects.mmdet3d_plugin.evaluation.rotated_iou import rectangle_iou


def rectangles(count: int, side: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(count, 5) boxes from above on a square of some metres, and scores."""
    rng = torch.Generator().manual_seed(seed)
    scale = torch.tensor([side, side, 4.0, 2.0, 6.3])
    boxes = torch.rand(count, 5, generator=rng) * scale + torch.tensor([0, 0, 0.5, 0.5, 0])
    return boxes, torch.rand(count, generator=rng)


def test_overlap_is_that_of_the_evaluation() -> None:
    (first, _), (second, _) = rectangles(2000, 5.0), rectangles(2000, 5.0, seed=1)
    expected = rectangle_iou(first.double().numpy(), second.double().numpy())
    assert (expected > 0.1).any()
    assert np.abs(rotated_iou(first, second).numpy() - expected).max() < 1e-5


def test_boxes_that_lie_on_each_other() -> None:
    """Sides on sides count once: the same box, turned by half a circle, and one half of it."""
    box = torch.tensor([[3.0, 4.0, 4.0, 2.0, 0.3]])
    half = box * torch.tensor([1, 1, 1, 0.5, 1]) + torch.tensor([-np.sin(0.3), np.cos(0.3), 0, 0, 0]) * 0.5
    others = torch.cat([box, box + torch.tensor([0, 0, 0, 0, torch.pi]), half.to(box)])
    found = rotated_iou(box.expand(3, 5), others)
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.5]), atol=1e-4, rtol=0)


@pytest.mark.parametrize('count', [0, 1, 100])
def test_what_stays_is_what_mmdet3d_keeps(count: int) -> None:
    boxes, scores = rectangles(count, 15.0)
    found = suppress_rotated(boxes, scores, 0.1)
    if count:
        assert torch.equal(found, nms_bev(xywhr2xyxyr(boxes), scores, 0.1))
        best = nms_bev(xywhr2xyxyr(boxes), scores, 0.1, pre_max_size=30)
        assert torch.equal(suppress_rotated(boxes, scores, 0.1, most=30), best)
    centres = torch.cat([boxes[:, :2], scores[:, None]], 1).numpy()
    assert suppress_close(boxes[:, :2], scores, 4.0).tolist() == (
        circle_nms.py_func(centres, 4.0) if count else []
    )

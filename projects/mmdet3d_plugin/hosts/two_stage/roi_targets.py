"""Which object each proposal of a second stage should become, and how well it fits already."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import iou_3d
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals


class RoITargets(NamedTuple):
    """Per proposal: (N,) the largest IoU with an object of its class, and that object (N, 7), any where the IoU is 0."""

    iou: Tensor
    boxes: Tensor


@torch.no_grad()
def assign_targets(
    proposals: Proposals, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]
) -> RoITargets:
    """Match proposals with ground truth of the same class and cloud.

    Args:
        proposals: N boxes of B clouds.
        gt_boxes: B tensors (n_i, 7+), bottom centres, metres and radians, LiDAR frame.
        gt_labels: B tensors (n_i,).
    """
    iou, boxes = proposals.scores.new_zeros(len(proposals)), proposals.boxes.clone()
    for sample, (truth, labels) in enumerate(zip(gt_boxes, gt_labels, strict=True)):
        mine = (proposals.batch_index == sample).nonzero().squeeze(1)
        if not len(mine) or not len(truth):
            continue
        truth = truth[:, :7].to(boxes)
        overlap = iou_3d(proposals.boxes[mine], truth)
        overlap = overlap * (proposals.labels[mine, None] == labels.to(mine))
        iou[mine], which = overlap.max(1)
        boxes[mine] = truth[which]
    return RoITargets(iou, boxes)


def quality_of(iou: Tensor, none: float, full: float) -> Tensor:
    """What the score should be at an IoU: 0 up to ``none``, 1 from ``full`` on, linear between (Jiang et al., IoU-Net).

    Example:
        >>> quality_of(torch.tensor([0.2, 0.5, 0.9]), 0.25, 0.75).tolist()
        [0.0, 0.5, 1.0]
    """
    return ((iou - none) / (full - none)).clamp(0, 1)

"""Intersection over union of boxes in 3D, on CPU and GPU, which mmcv has for CUDA only."""

import torch
from mmcv.ops import box_iou_rotated
from torch import Tensor


def footprints(boxes: Tensor) -> Tensor:
    """Boxes (N, 7) -> (N, 5) seen from above: x, y, length, width, yaw; float32, which is all that mmcv takes."""
    return boxes[:, [0, 1, 3, 4, 6]].float()


@torch.no_grad()
def iou_from_above(boxes: Tensor, others: Tensor, asked: Tensor | None = None) -> Tensor:
    """Boxes (N, 7) and (M, 7) -> (N, M) in [0, 1]: the area that two share over the area that they cover; 0 for pairs that
    are not ``asked`` for, (N, M) bool."""
    return footprint_iou(footprints(boxes), footprints(others), asked).to(boxes)


@torch.no_grad()
def footprint_iou(ours: Tensor, theirs: Tensor, asked: Tensor | None = None) -> Tensor:
    """The same of boxes that are seen from above already.

    Most boxes of a scene are too far apart to share any area, and mmcv's operator takes as long to find that out as it
    takes for boxes that do: only those whose circumscribed circles meet are given to it.

    Args:
        ours: (N, 5) x, y, length, width, yaw, float32.
        theirs: (M, 5).
        asked: (N, M) bool, pairs that are of interest; all by default.

    Returns:
        (N, M) float32; the operator's own numbers, 0 for pairs that nobody asked for.
    """
    reach = ours[:, None, 2:4].norm(dim=2) + theirs[None, :, 2:4].norm(dim=2)
    apart = (ours[:, None, :2] - theirs[None, :, :2]).norm(dim=2)
    near = 2 * apart <= reach * 1.001
    row, column = (near if asked is None else near & asked).nonzero(as_tuple=True)
    overlap = ours.new_zeros(len(ours), len(theirs))
    overlap[row, column] = box_iou_rotated(ours[row], theirs[column], aligned=True)
    return overlap


@torch.no_grad()
def covered_share(boxes: Tensor, others: Tensor) -> Tensor:
    """Boxes (N, 7) and (M, 7) -> (N, M) in [0, 1]: how much of each box's ground lies in another's.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 1.0, 0.0]])
        >>> covered_share(box, box + torch.tensor([2.0, 0, 0, 0, 0, 0, 0])).item()
        0.5
    """
    above = iou_from_above(boxes, others)
    area, other_area = boxes[:, 3] * boxes[:, 4], others[:, 3] * others[:, 4]
    return above * (area[:, None] + other_area) / (1 + above) / area[:, None]


@torch.no_grad()
def iou_3d(boxes: Tensor, others: Tensor) -> Tensor:
    """Volume that two boxes share over the volume that they fill together.

    Args:
        boxes: (N, 7), bottom centres, metres and radians.
        others: (M, 7).

    Returns:
        (N, M) in [0, 1]; a constant.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 1.0, 0.3]])
        >>> iou_3d(box, box + torch.tensor([0, 0, 0.5, 0, 0, 0, 0])).item()  # doctest: +ELLIPSIS
        0.333...
    """
    if not len(boxes) or not len(others):
        return boxes.new_zeros(len(boxes), len(others))
    top = torch.minimum((boxes[:, 2] + boxes[:, 5])[:, None], others[:, 2] + others[:, 5])
    height = (top - torch.maximum(boxes[:, None, 2], others[:, 2])).clamp(min=0)
    above = iou_from_above(boxes, others)
    area, other_area = boxes[:, 3] * boxes[:, 4], others[:, 3] * others[:, 4]
    shared = above * (area[:, None] + other_area) / (1 + above) * height
    volumes = (area * boxes[:, 5])[:, None] + other_area * others[:, 5]
    return (shared / (volumes - shared).clamp(min=1e-9)).clamp(0, 1)

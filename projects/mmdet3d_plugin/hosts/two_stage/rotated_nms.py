"""Non-maximum suppression of rotated boxes that stops when it has enough."""

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import iou_from_above

_BLOCK = 128


@torch.no_grad()
def rotated_nms(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Keep the best boxes that do not overlap a better one that is kept.

    A second stage takes a few hundred of several thousand candidates, whose overlaps need not all be known: boxes are
    looked at in blocks, best first, until enough are kept.

    Args:
        boxes: (N, 7), bottom centres.
        scores: (N,).
        iou: largest overlap seen from above of two boxes that both stay.
        most: boxes kept at the most.

    Returns:
        (n,) indices, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = order[:0]
    for block in order.split(_BLOCK):
        if len(kept):
            block = block[(iou_from_above(boxes[block], boxes[kept]) <= iou).all(1)]
        better = boxes.new_ones(len(block), len(block), dtype=torch.bool).tril(-1)
        overlap = iou_from_above(boxes[block], boxes[block], better) > iou
        kept = torch.cat([kept, block[_first(overlap)]])
        if len(kept) >= most:
            break
    return kept[:most]


def _first(overlap: Tensor) -> Tensor:
    """(n, n) which boxes overlap -> (n,) bool: which overlap none that is kept before them."""
    rows, free = overlap.cpu().numpy(), np.ones(len(overlap), bool)
    for i in range(1, len(rows)):
        free[i] = not (rows[i, :i] & free[:i]).any()
    return torch.from_numpy(free).to(overlap.device)

"""Non-maximum suppression of turned boxes in operations that ONNX has; mmcv's operator has no place in a graph."""

import warnings

import torch
from torch import Tensor

_TOUCH = 2e-6  # metres within which two sides lie on one line
_NOTHING = 1e-12  # square metres


def suppress_rotated(boxes: Tensor, scores: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Which boxes stay when each removes those of lower scores that overlap it.

    Args:
        boxes: (n, 5) x, y, length, width in metres, and yaw in radians, from above.
        scores: (n,).
        threshold: intersection over union from which two boxes overlap.
        most: boxes that are looked at, best first; all by default.

    Returns:
        (m,) indices, best first.
    """
    order = scores.sort(descending=True)[1][:most]
    boxes = boxes[order]
    reach = boxes[:, 2:4].square().sum(-1).sqrt() / 2
    apart = boxes[:, None, :2] - boxes[None, :, :2]
    near = apart.square().sum(-1) < (reach[:, None] + reach).square()
    first, second = near.triu(1).nonzero(as_tuple=True)
    overlap = rotated_iou(boxes[first], boxes[second]) > threshold
    removes = torch.zeros_like(near).index_put((first, second), overlap)
    return order[stays(removes.float()) > 0]


def suppress_close(centres: Tensor, scores: Tensor, squared: float) -> Tensor:
    """The same for boxes whose centres (n, 2) are at most so many square metres apart; (m,) indices, best first."""
    order = scores.sort(descending=True)[1]
    centres = centres[order]
    close = (centres[:, None] - centres[None]).square().sum(-1) <= squared
    return order[stays(close.triu(1).float()) > 0]


def _stays(removes: Tensor) -> Tensor:
    keep = torch.ones(removes.size(0), dtype=removes.dtype, device=removes.device)
    changing = True
    while changing:
        now = (torch.mv(removes.t(), keep) == 0).to(keep.dtype)
        changing = bool((now != keep).sum() > 0)
        keep = now
    return keep


with warnings.catch_warnings():
    # Tracing would unroll the loop as often as the example needed it.
    warnings.simplefilter('ignore', DeprecationWarning)
    stays = torch.jit.script(_stays)
"""(n, n) float, 1 where a box removes one of lower score, zeros on and below the diagonal -> (n,) float, 1 for those that
stay. From "all stay", the ``k`` best are right after ``k`` rounds, and nearly always all are after a few."""


def rotated_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of rectangles (n, 5), pair by pair; returns (n,). See ``evaluation.rotated_iou``.

    By Green's theorem, what two share is half the sum of ``p x q`` over the pieces of each one's sides that lie in the
    other.
    """
    middle = first[:, :2]
    one, other = (_corners(boxes, middle) for boxes in (first, second))
    shared = (_border(one, other, 1.0) + _border(other, one, -1.0)).clamp(min=0) / 2
    union = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - shared
    return shared / union.clamp(min=_NOTHING)


def _corners(boxes: Tensor, origin: Tensor) -> Tensor:
    """(n, 5) -> (n, 4, 2), counter-clockwise."""
    ahead, beside = boxes.new_tensor([1, -1, -1, 1]) / 2, boxes.new_tensor([1, 1, -1, -1]) / 2
    x, y = boxes[:, 2:3] * ahead, boxes[:, 3:4] * beside
    c, s = boxes[:, 4:5].cos(), boxes[:, 4:5].sin()
    return torch.stack([x * c - y * s, x * s + y * c], -1) + (boxes[:, :2] - origin)[:, None]


def _border(polygon: Tensor, other: Tensor, shared: float) -> Tensor:
    """Sum of ``p x q`` over the pieces p -> q of a polygon's sides that lie in the other; (n, 4, 2) each.

    A side on a side of the other that runs the same way counts once: where ``shared`` is positive.
    """
    step, side = (corners.roll(-1, 1) - corners for corners in (polygon, other))
    length = side.square().sum(-1).sqrt().clamp(min=_NOTHING)
    away = polygon[:, :, None] - other[:, None]  # (n, corner, line, 2)
    depth = (side[:, None, :, 0] * away[..., 1] - side[:, None, :, 1] * away[..., 0]) / length[:, None]
    along = (step[:, :, None] * side[:, None]).sum(-1) > 0
    margin = torch.where(along, -_TOUCH * shared, _TOUCH)
    depth, after = depth - margin, depth.roll(-1, 1) - margin
    change = depth - after
    crossing = depth / torch.where(change == 0, torch.ones_like(change), change)
    begin = torch.where((depth < 0) & (after >= 0), crossing, 0.0).amax(-1)
    end = torch.where((depth >= 0) & (after < 0), crossing, 1.0).amin(-1)
    inside = ((depth < 0) & (after < 0)).sum(-1) == 0
    p, q = polygon + begin[..., None] * step, polygon + end[..., None] * step
    cross = p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    return torch.where(inside & (begin < end), cross, 0.0).sum(-1)

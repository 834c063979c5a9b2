"""Overlap of turned rectangles and upright boxes, pair by pair, exact in float64 and without a GPU."""

import numpy as np

from projects.mmdet3d_plugin.common.geometry import rectangle_corners

_TOUCH = 1e-9  # metres within which two sides lie on one line
_CHUNK = 1 << 15  # pairs at once: what fits into a processor's cache


def rectangle_intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area that two rectangles share.

    By Green's theorem it is half the sum of ``p x q`` over the border of what they share, which consists of the
    sides of each that lie within the other: no corners need to be sorted.

    Args:
        first: (..., 5) centre x, y, length, width, yaw; metres and radians, counter-clockwise.
        second: (..., 5), broadcastable against ``first``.

    Returns:
        (...) float64 square metres.

    Example:
        >>> square, turned = np.array([0.0, 0, 2, 2, 0]), np.array([0.0, 0, 2, 2, np.pi / 4])
        >>> round(float(rectangle_intersection(square, turned)), 3)
        3.314
    """
    first, second = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    pairs = np.stack([first, second]).reshape(2, -1, 5)
    area = np.zeros(pairs.shape[1])
    offset = pairs[1, :, :2] - pairs[0, :, :2]
    reach = np.hypot(*pairs[..., 2:4].T).T.sum(0) / 2
    near = np.flatnonzero((offset**2).sum(-1) < reach**2)
    for start in range(0, len(near), _CHUNK):
        chosen = near[start : start + _CHUNK]
        area[chosen] = _shared_area(pairs[0, chosen], pairs[1, chosen])
    return area.reshape(first.shape[:-1])


def _shared_area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, 5) against (N, 5) -> (N,) areas."""
    middle = first[:, :2].copy()  # sums of products of large coordinates would cancel badly
    one, other = (rectangle_corners(r[:, :2] - middle, r[:, 2:4], r[:, 4]) for r in (first, second))
    return (_border(one, other, True) + _border(other, one, False)).clip(0) / 2


def _border(polygon: np.ndarray, other: np.ndarray, shared: bool) -> np.ndarray:
    """Sum of ``p x q`` over the pieces p -> q of a polygon's sides that lie within the other; (N, 4, 2) each.

    A side that lies on a side of the other belongs to the border of what they share when both run the same way, and
    must count once: only where ``shared`` is set.
    """
    step, side = (np.roll(corners, -1, axis=1) - corners for corners in (polygon, other))
    length = np.hypot(side[..., 0], side[..., 1]).clip(1e-300)
    # depth[n, i, k]: how far corner i lies to the inner side of line k.
    away = polygon[:, :, None] - other[:, None]
    depth = (side[:, None, :, 0] * away[..., 1] - side[:, None, :, 1] * away[..., 0]) / length[:, None]
    along = (step[:, :, None] * side[:, None]).sum(-1) > 0
    margin = np.where(along & shared, -_TOUCH, _TOUCH)
    depth, after = depth - margin, np.roll(depth, -1, axis=1) - margin
    with np.errstate(divide='ignore', invalid='ignore'):
        crossing = depth / (depth - after)
    first = np.where((depth < 0) & (after >= 0), crossing, 0).max(-1)
    last = np.where((depth >= 0) & (after < 0), crossing, 1).min(-1)
    inside = ~((depth < 0) & (after < 0)).any(-1) & (first < last)
    p, q = polygon + first[..., None] * step, polygon + last[..., None] * step
    return np.where(inside, p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0], 0).sum(-1)


def rectangle_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of rectangles (..., 5) as in :func:`rectangle_intersection`; returns (...).

    Example:
        >>> float(rectangle_iou(np.array([0.0, 0, 4, 2, 0]), np.array([2.0, 0, 4, 2, 0])).round(3))
        0.333
    """
    shared = rectangle_intersection(first, second)
    return _over_union(shared, first[..., 2] * first[..., 3], second[..., 2] * second[..., 3])


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of upright boxes, pair by pair.

    Args:
        first: (..., 7) x, y, z of the centre, length, width, height, yaw; metres and radians.
        second: (..., 7), broadcastable against ``first``.

    Returns:
        (...) float64 in 0..1.

    Example:
        >>> box = np.array([[0.0, 0, 0, 4, 2, 2, 0]])
        >>> box_iou(box, box + [0, 0, 1, 0, 0, 0, 0]).round(3)
        array([0.333])
    """
    plane = [0, 1, 3, 4, 6]
    top = np.minimum(first[..., 2] + first[..., 5] / 2, second[..., 2] + second[..., 5] / 2)
    bottom = np.maximum(first[..., 2] - first[..., 5] / 2, second[..., 2] - second[..., 5] / 2)
    shared = rectangle_intersection(first[..., plane], second[..., plane]) * (top - bottom).clip(0)
    return _over_union(shared, first[..., 3:6].prod(-1), second[..., 3:6].prod(-1))


def image_box_intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area shared by image boxes (..., 4) x0, y0, x1, y1 and (..., 4), pair by pair; returns (...) square pixels.

    Example:
        >>> image_box_intersection(np.array([0, 0, 10, 10]), np.array([5, 0, 15, 10]))
        50
    """
    size = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    return size.clip(0).prod(-1)


def image_box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of image boxes (..., 4) and (..., 4), pair by pair; returns (...) in 0..1.

    Example:
        >>> image_box_iou(np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 15, 10])).round(3)
        0.333
    """
    areas = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (first, second))
    return _over_union(image_box_intersection(first, second), *areas)


def _over_union(shared: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shared measure over that of the union, 0 where both are empty."""
    union = first + second - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

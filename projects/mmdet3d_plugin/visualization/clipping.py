"""Segments and polygons, cut to what a camera sees.

Clipping happens in homogeneous image coordinates ``(u * d, v * d, d)`` against the five planes of the
camera's frustum, before the division by depth. So a box that reaches behind the camera or over the
image border is cut exactly where it leaves the view, instead of being dropped or mirrored.
"""

import numpy as np

from projects.mmdet3d_plugin.common.geometry import NEAR


def _frustum(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Planes (5, 3) and offsets (5,): a point is in view where ``planes @ p + offsets >= 0``."""
    planes = np.array([(0, 0, 1), (1, 0, 0), (-1, 0, width), (0, 1, 0), (0, -1, height)], dtype=float)
    return planes, np.array([-NEAR, 0, 0, 0, 0])


def clip_segments(segments: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut segments to a camera's view.

    Args:
        segments: (n, 2, 3) end points from :func:`~projects.mmdet3d_plugin.common.geometry.transform_points`.
        width, height: image size in pixels.

    Returns:
        Pixel end points (m, 2, 2) and the indices (m,) of the segments they came from.
    """
    planes, offsets = _frustum(width, height)
    start, end = (segments[:, side] @ planes.T + offsets for side in (0, 1))
    with np.errstate(divide='ignore', invalid='ignore'):
        crossing = start / (start - end)
    first = np.where((start < 0) & (end >= 0), crossing, 0).max(axis=1)
    last = np.where((start >= 0) & (end < 0), crossing, 1).min(axis=1)
    keep = np.flatnonzero(~((start < 0) & (end < 0)).any(axis=1) & (first < last))
    along = np.stack([first, last], axis=1)[keep, :, None]
    points = segments[keep, :1] + along * (segments[keep, 1:] - segments[keep, :1])
    return points[..., :2] / points[..., 2:], keep


def clip_polygon(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut a convex polygon to a camera's view.

    Args:
        polygon: (k, 3) corners from :func:`~projects.mmdet3d_plugin.common.geometry.transform_points`, in order.
        width, height: image size in pixels.

    Returns:
        (m, 2) pixels; empty when nothing is in view.

    Example:
        >>> clip_polygon(np.array([[0.0, 0, 1], [1, 0, 1], [1, 1, 1]]), 1, 1).shape
        (3, 2)
    """
    for plane, offset in zip(*_frustum(width, height), strict=True):
        polygon = _cut(polygon, polygon @ plane + offset)
        if len(polygon) < 3:
            return np.zeros((0, 2))
    return polygon[:, :2] / polygon[:, 2:]


def _cut(polygon: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Keep the part of a convex polygon (k, 3) on the positive side of a plane; distance (k,)."""
    kept = []
    for index, point in enumerate(polygon):
        previous, before, here = polygon[index - 1], distance[index - 1], distance[index]
        if (before >= 0) != (here >= 0):
            kept.append(previous + before / (before - here) * (point - previous))
        if here >= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, 3)

"""Frames, boxes and cameras: what every package means by a pose, a corner and a projection.

Frames are right-handed, in metres: LiDAR, ego and global with z up, a camera's optical frame with x right, y down and
z ahead. A box is ``x, y, z, l, w, h, yaw``: its gravity centre, its length along its heading, and the heading in
radians, counter-clockwise from x. A matrix named ``a2b`` (or ``lidar2img``) takes points of frame a to frame b.

Functions take NumPy arrays and torch tensors alike where their annotations say ``Array``, and return what they got.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from pyquaternion import Quaternion
from torch import Tensor

Array = TypeVar('Array', np.ndarray, Tensor)

NEAR = 0.1
"""Metres ahead of a camera; what is nearer, or behind it, is cut off."""

BOX_EDGES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]
)
"""Pairs of corners that are joined, see :func:`box_corners`."""
FRONT_FACE = np.array([0, 1, 5, 4])
FOOTPRINT = np.array([0, 1, 2, 3])

_UNIT_BOX = np.array([(1, 1, -1), (1, -1, -1), (-1, -1, -1), (-1, 1, -1), (1, 1, 1), (1, -1, 1), (-1, -1, 1), (-1, 1, 1)]) / 2  # fmt: skip
_UNIT_SQUARE = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2


def transform_matrix(
    rotation: Sequence[float] | np.ndarray | Quaternion, translation: Sequence[float] = (0, 0, 0)
) -> np.ndarray:
    """Rigid transform (4, 4), float64: turn, then move.

    Args:
        rotation: a quaternion ``w, x, y, z`` of any length, or a (3, 3) matrix, which may be intrinsics as well.
        translation: (3,) metres.

    Examples:
        >>> transform_matrix((1, 0, 0, 0), (1, 2, 3)) @ (10, 20, 30, 1)
        array([11., 22., 33.,  1.])
    """
    matrix = np.eye(4)
    is_matrix = not isinstance(rotation, Quaternion) and np.ndim(rotation) == 2
    matrix[:3, :3] = rotation if is_matrix else Quaternion(rotation).rotation_matrix
    matrix[:3, 3] = translation
    return matrix


def planar_pose(x: float, y: float, yaw: float) -> np.ndarray:
    """Transform (4, 4) from a body on the ground to the frame it stands in; metres, radians.

    Example:
        >>> planar_pose(1, 2, 0) @ (5, 0, 0, 1)
        array([6., 2., 0., 1.])
    """
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)


def transform_points(points: Array, matrix: Array) -> Array:
    """Take points to another frame, or to an image, not yet divided by depth.

    Args:
        points: (..., 3), metres.
        matrix: (4, 4) or (3, 4), a pose or a projection.

    Returns:
        (..., 3): metres, or ``(u * d, v * d, d)`` with ``u, v`` in pixels and the depth ``d`` in metres.

    Example:
        >>> transform_points(np.array([[10.0, 0, 0]]), planar_pose(1, 2, 0))
        array([[11.,  2.,  0.]])
    """
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def turn(points: Array, yaw: Array) -> Array:
    """Turn points (..., 3) about z by ``yaw`` radians, which broadcasts over the leading axes.

    Example:
        >>> turn(np.array([[1.0, 0, 5]]), np.array([np.pi / 2])).round(6)
        array([[0., 1., 5.]])
    """
    xp = torch if isinstance(points, Tensor) else np
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    cos, sin = xp.cos(yaw), xp.sin(yaw)
    turned = x * cos - y * sin
    return xp.stack([turned, x * sin + y * cos, xp.broadcast_to(z, turned.shape)], -1)


def transform_boxes(boxes: Array, matrix: Array) -> Array:
    """Take boxes to another frame that shares, but for a small tilt, the direction of z; it may be mirrored or scaled.

    Args:
        boxes: (n, 7) or (n, 9), see above; the last two are a velocity in m/s.
        matrix: (4, 4).

    Returns:
        As ``boxes``, a new array. The heading is that of the moved heading, seen from above.

    Example:
        >>> box = np.array([[10.0, 0, 1, 4, 2, 1.5, 0, 3, 0]])
        >>> transform_boxes(box, planar_pose(0, 0, np.pi / 2)).round(3).tolist()
        [[0.0, 10.0, 1.0, 4.0, 2.0, 1.5, 1.571, 0.0, 3.0]]
    """
    xp = torch if isinstance(boxes, Tensor) else np
    linear = matrix[:3, :3]
    scale = abs(float(xp.linalg.det(linear))) ** (1 / 3)
    yaw, level = boxes[:, 6], boxes[:, 6] * 0
    heading = xp.stack([xp.cos(yaw), xp.sin(yaw), level], -1) @ linear.T
    turned = (xp.atan2 if xp is torch else np.arctan2)(heading[:, 1], heading[:, 0])
    parts = [transform_points(boxes[:, :3], matrix), boxes[:, 3:6] * scale, turned[:, None]]
    if boxes.shape[1] > 7:
        velocity = xp.stack([boxes[:, 7], boxes[:, 8], level], -1) @ linear.T
        parts.append(velocity[:, :2])
    return xp.concatenate(parts, 1)


def box_corners(boxes: Array) -> Array:
    """Corners of boxes: the lower four, then the upper four, each front left, front right, rear right, rear left.

    Args:
        boxes: (n, 7+), see above.

    Returns:
        (n, 8, 3) in the frame of the boxes, metres.

    Examples:
        >>> box_corners(np.array([[10.0, 20, 1, 4, 2, 3, 0]]))[0, 0]
        array([12. , 21. , -0.5])
    """
    unit = torch.from_numpy(_UNIT_BOX).to(boxes) if isinstance(boxes, Tensor) else _UNIT_BOX
    return turn(unit * boxes[:, None, 3:6], boxes[:, 6:7]) + boxes[:, None, :3]


def rectangle_corners(centre: np.ndarray, size: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Corners of rectangles, counter-clockwise.

    Args:
        centre: (..., 2), metres.
        size: (..., 2) length and width, metres; broadcasts over the leading axes.
        yaw: (...) radians.

    Returns:
        (..., 4, 2), metres.

    Example:
        >>> rectangle_corners(np.zeros(2), np.array([4.0, 2]), np.zeros(())).tolist()
        [[-2.0, -1.0], [2.0, -1.0], [2.0, 1.0], [-2.0, 1.0]]
    """
    x, y = np.moveaxis(_UNIT_SQUARE * np.asarray(size)[..., None, :], -1, 0)
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    return centre[..., None, :] + np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def lidar_to_image(intrinsics: np.ndarray, cam2lidar: np.ndarray) -> np.ndarray:
    """Projections of a rig's cameras.

    Args:
        intrinsics: (num_cams, 3, 3), pixels.
        cam2lidar: (num_cams, 4, 4), optical frames to the LiDAR frame.

    Returns:
        (num_cams, 4, 4), LiDAR frame to pixels.

    Example:
        >>> ahead = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # looks along x
        >>> lidar2img = lidar_to_image(np.diag([100.0, 100, 1])[None], ahead[None])
        >>> transform_points(np.array([[10.0, 2, 0]]), lidar2img[0])
        array([[-200.,    0.,   10.]])
    """
    cam2img = np.tile(np.eye(4), (len(intrinsics), 1, 1))
    cam2img[:, :3, :3] = intrinsics
    return cam2img @ np.linalg.inv(cam2lidar)


def image_bounds(corners: Tensor, lidar2img: Tensor, near: float = NEAR) -> tuple[Tensor, Tensor]:
    """Smallest upright rectangle around the part of each box ahead of a camera, over the image's border too.

    Args:
        corners: (M, 8, 3) from :func:`box_corners`.
        lidar2img: (M, num_cams, 4, 4) or (M, num_cams, 3, 4).
        near: depth of the cutting plane in metres.

    Returns:
        Lower and upper corner, each (M, num_cams, 2) in pixels; lower = inf, upper = -inf behind the camera.

    Example:
        >>> corners = box_corners(torch.tensor([[0.0, 0, 10, 2, 2, 2, 0]]))  # 10 m ahead in z
        >>> low, high = image_bounds(corners, torch.eye(4)[None, None])
        >>> low.shape, [round(x, 3) for x in high[0, 0].tolist()]
        (torch.Size([1, 1, 2]), [0.111, 0.111])
    """
    corners = torch.nn.functional.pad(corners, (0, 1), value=1.0)
    points = torch.einsum('mcij,mkj->mcki', lidar2img[..., :3, :], corners)
    start, end = points[:, :, torch.from_numpy(BOX_EDGES).to(points.device)].unbind(-2)
    ends = torch.stack([_cut(start, end, near), _cut(end, start, near)], dim=-2)
    pixel = ends[..., :2] / ends[..., 2:].clamp(min=near)
    visible = ((start[..., 2] >= near) | (end[..., 2] >= near))[..., None, None]
    low = pixel.masked_fill(~visible, torch.inf).flatten(2, 3).amin(2)
    high = pixel.masked_fill(~visible, -torch.inf).flatten(2, 3).amax(2)
    return low, high


def _cut(point: Tensor, other: Tensor, near: float) -> Tensor:
    """Move points (..., 3) behind the near plane along their edge onto it."""
    depth, further = point[..., 2:], other[..., 2:]
    share = (near - depth) / (further - depth).where(further != depth, torch.ones_like(depth))
    return torch.where(depth < near, point + share.clamp(0, 1) * (other - point), point)

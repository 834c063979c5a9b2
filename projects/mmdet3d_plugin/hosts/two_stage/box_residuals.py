"""What a second stage regresses: the object's box in the frame of the proposal.

The frame has its origin at the proposal's gravity centre and x along its heading, so that the same correction has the
same code wherever a proposal lies and however it is turned (Shi et al., PointRCNN, CVPR 2019, "canonical
coordinates"). Whether a box points forward or backward is the first stage's to say: yaws are compared modulo pi.
"""

import math

import torch
from mmdet3d.core.bbox.structures.utils import limit_period
from torch import Tensor

from projects.mmdet3d_plugin.common.geometry import box_corners


def into_frame(offsets: Tensor, yaw: Tensor) -> Tensor:
    """Turn (..., 3) offsets from boxes into the boxes' own frames, x ahead; ``yaw`` is (...)."""
    return _turned(offsets, -yaw)


def out_of_frame(offsets: Tensor, yaw: Tensor) -> Tensor:
    """Turn (..., 3) offsets from the boxes' own frames into the LiDAR frame; ``yaw`` is (...)."""
    return _turned(offsets, yaw)


def _turned(offsets: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    x, y, z = offsets.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos, z], -1)


def gravity_centers(boxes: Tensor) -> Tensor:
    """Boxes (N, 7) -> (N, 3)."""
    return torch.cat([boxes[:, :2], boxes[:, 2:3] + boxes[:, 5:6] / 2], 1)


def encode_residuals(boxes: Tensor, targets: Tensor) -> Tensor:
    """The code of one box in the frame of another.

    Args:
        boxes: (N, 7) proposals, bottom centres.
        targets: (N, 7) what they should become.

    Returns:
        (N, 7): offset ahead and to the left over the proposal's diagonal, upwards over its height, logarithms of the
        ratios of length, width and height, and the yaw between them, in [-pi/2, pi/2).
    """
    offset = into_frame(gravity_centers(targets) - gravity_centers(boxes), boxes[:, 6])
    sizes = (targets[:, 3:6] / boxes[:, 3:6]).log()
    turn = limit_period(targets[:, 6:] - boxes[:, 6:], 0.5, math.pi)
    return torch.cat([offset / _units(boxes), sizes, turn], 1)


def decode_residuals(boxes: Tensor, residuals: Tensor) -> Tensor:
    """The inverse of :func:`encode_residuals`: (N, 7) boxes and (N, 7) codes -> (N, 7) boxes."""
    offset = out_of_frame(residuals[:, :3] * _units(boxes), boxes[:, 6])
    sizes = boxes[:, 3:6] * residuals[:, 3:6].exp()
    center = gravity_centers(boxes) + offset
    bottom = center[:, 2:] - sizes[:, 2:] / 2
    return torch.cat([center[:, :2], bottom, sizes, boxes[:, 6:] + residuals[:, 6:]], 1)


def _units(boxes: Tensor) -> Tensor:
    """(N, 3) metres that an offset of 1 stands for."""
    diagonal = boxes[:, 3:5].norm(dim=1, keepdim=True)
    return torch.cat([diagonal, diagonal, boxes[:, 5:6]], 1)


def corners_of(boxes: Tensor) -> Tensor:
    """Boxes (N, 7) -> their corners (N, 8, 3), metres, LiDAR frame."""
    return box_corners(torch.cat([gravity_centers(boxes), boxes[:, 3:7]], 1))

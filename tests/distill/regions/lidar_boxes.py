"""Boxes as detectors give them."""

from collections.abc import Sequence

import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes


def lidar_boxes(gravity: Sequence[Sequence[float]], width: int = 9) -> LiDARInstance3DBoxes:
    """Boxes ``(x, y, z, l, w, h, yaw)`` with gravity centres; velocities, where there are some, are 1 and 2 m/s."""
    rows = torch.tensor([[*box[:7], 1.0, 2.0][:width] for box in gravity], dtype=torch.float32).view(
        -1, width
    )
    return LiDARInstance3DBoxes(rows, box_dim=width, origin=(0.5, 0.5, 0.5))

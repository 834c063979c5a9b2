"""Move the previous BEV feature into the current ego frame (BEVFormer, section 3.4)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bev_shift(can_bus: Tensor, real_size: tuple[float, float]) -> Tensor:
    """Ego translation since the previous frame, as a fraction of the BEV map.

    Args:
        can_bus: (B, 18), see the dataset: ``[:2]`` is the translation in the global frame (metres) and
            ``[-2]`` the absolute ego yaw (radians).
        real_size: (width, height) of the BEV map in metres.

    Returns:
        (B, 2), shift (x, y) to add to reference points in [0, 1]; x is right, y is forward.

    Example:
        >>> can_bus = torch.zeros(1, 18)
        >>> can_bus[0, 1] = 5.12  # metres
        >>> bev_shift(can_bus, (102.4, 102.4)).abs().max()
        tensor(0.0500)
    """
    motion = can_bus[:, :2].double()
    length = motion.norm(dim=1)
    angle = can_bus[:, -2].double() - torch.atan2(motion[:, 1], motion[:, 0])
    right, forward = length * torch.sin(angle), length * torch.cos(angle)
    return torch.stack([right / real_size[0], forward / real_size[1]], dim=1).float()


def rotate_bev(
    bev: Tensor, angle: Tensor, center: tuple[float, float] | None = None, mode: str = 'bilinear'
) -> Tensor:
    """Rotate each BEV map of a batch by its own angle; cells that come from outside are zero.

    Args:
        bev: (B, C, H, W).
        angle: (B,), degrees, the change of ego yaw; a left turn (positive) turns the scene right.
        center: (x, y) in cells from the top-left corner, default the middle of the map.
        mode: ``'bilinear'`` or ``'nearest'``.

    Returns:
        (B, C, H, W), a new tensor: the caller's memory is not touched.

    Example:
        >>> bev = torch.zeros(1, 1, 3, 3)
        >>> bev[0, 0, 1, 2] = 1.0
        >>> rotate_bev(bev, torch.tensor([90.0]))[0, 0].round()
        tensor([[0., 1., 0.],
                [0., 0., 0.],
                [0., 0., 0.]])
    """
    h, w = bev.shape[-2:]
    cx, cy = (0.0, 0.0) if center is None else (center[0] - 0.5 * w, center[1] - 0.5 * h)
    radians = angle.to(bev.dtype) * (math.pi / 180)
    cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
    x = torch.arange(w, device=bev.device, dtype=bev.dtype)[None, None, :] - (0.5 * (w - 1) + cx)
    y = torch.arange(h, device=bev.device, dtype=bev.dtype)[None, :, None] - (0.5 * (h - 1) + cy)
    grid_x = (cos * x - sin * y + cx) / (0.5 * w)
    grid_y = (sin * x + cos * y + cy) / (0.5 * h)
    grid = torch.stack([grid_x, grid_y], dim=-1)
    return F.grid_sample(bev, grid, mode=mode, padding_mode='zeros', align_corners=False)

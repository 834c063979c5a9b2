"""Reference points of the BEV grid: in the plane, in pillars, and on the cameras (BEVFormer, section 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.detr.cameras import project_to_cameras


@dataclass
class VisiblePairs:
    """Which camera sees which BEV query, for a batch, sorted by (sample, camera, query).

    Attributes:
        value_index: (K,), sample * num_cams + camera.
        query_index: (K,), sample * Q + query.
        points: (K, D, 2), the pillar's anchors on that camera, (x, y) in units of the padded image.
        count: (B, Q, 1), number of cameras that see the query, at least 1.
    """

    value_index: Tensor
    query_index: Tensor
    points: Tensor
    count: Tensor


def plane_points(h: int, w: int, device: torch.device) -> Tensor:
    """Cell centres of the BEV map, row by row: (H * W, 2), (x, y) in [0, 1].

    Example:
        >>> plane_points(1, 2, torch.device('cpu'))
        tensor([[0.2500, 0.5000],
                [0.7500, 0.5000]])
    """
    y = (torch.arange(h, device=device) + 0.5) / h
    x = (torch.arange(w, device=device) + 0.5) / w
    grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
    return torch.stack([grid_x.flatten(), grid_y.flatten()], dim=-1)


def pillar_points(h: int, w: int, num_points: int, pc_range: list[float], device: torch.device) -> Tensor:
    """Anchors at ``num_points`` heights above every BEV cell: (H * W, D, 3), metres in the LiDAR frame.

    Example:
        >>> points = pillar_points(1, 1, 2, [-10, -10, -4, 10, 10, 4], torch.device('cpu'))
        >>> points.tolist()
        [[[0.0, 0.0, -3.5], [0.0, 0.0, 3.5]]]
    """
    low, high = torch.tensor(pc_range[:3], device=device), torch.tensor(pc_range[3:], device=device)
    height = float(high[2] - low[2])
    z = torch.linspace(0.5, height - 0.5, num_points, device=device) / height
    plane = plane_points(h, w, device)[:, None].expand(-1, num_points, -1)
    unit = torch.cat([plane, z[None, :, None].expand(h * w, -1, -1)], dim=-1)
    return unit * (high - low) + low


def visible_pairs(points: Tensor, lidar2img: Tensor, img_shape: Tensor) -> VisiblePairs:
    """Gather, once per frame, the (camera, query) pairs that spatial cross-attention has to look at.

    Arguments as in :func:`project_to_cameras`. Visibility is decided per sample.
    """
    uv, inside = project_to_cameras(points, lidar2img, img_shape)
    num_cams, q = inside.shape[1:3]
    visible = inside.any(-1)
    sample, camera, query = visible.nonzero(as_tuple=True)
    # Indexing keeps the memory order of uv, but every layer reads row by row.
    seen = uv[sample, camera, query].contiguous()
    return VisiblePairs(
        value_index=sample * num_cams + camera,
        query_index=sample * q + query,
        points=seen,
        count=visible.sum(1).clamp(min=1)[..., None],
    )

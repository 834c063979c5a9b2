"""Geometry of the BEV grid: cells, pillars, their projection onto the cameras, ego motion, an embedding for queries."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.detr.cameras import project_to_cameras

FAR_BESIDE = -1e4
"""A place, in units of the image, from which no sampling offset reaches it."""


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


@dataclass
class AllPairs:
    """Every camera with every BEV query, for a graph whose sizes must not depend on what is seen.

    Attributes:
        points: (B * num_cams, Q, D, 2), as in :class:`VisiblePairs`; far beside the image where the camera does not see
            the query, so that nothing is read there.
        count: (B, Q, 1), number of cameras that see the query, at least 1.
    """

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


def all_pairs(points: Tensor, lidar2img: Tensor, img_shape: Tensor) -> AllPairs:
    """The same as :func:`visible_pairs` without indices; arguments as in :func:`project_to_cameras`."""
    uv, inside = project_to_cameras(points, lidar2img, img_shape)
    visible = inside.any(-1)
    seen = torch.where(visible[..., None, None], uv, FAR_BESIDE)
    return AllPairs(seen.flatten(0, 1), visible.sum(1).clamp(min=1)[..., None])


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
    # other runtimes have no sines in float64
    can_bus = can_bus.float() if torch.onnx.is_in_onnx_export() else can_bus.double()
    x, y, yaw = can_bus[:, 0], can_bus[:, 1], can_bus[:, -2]
    right, forward = x * yaw.sin() - y * yaw.cos(), x * yaw.cos() + y * yaw.sin()
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


NUM_FACTS = 7


class BEVGeometry(nn.Module):
    """An embedding of the direction and the distance of every BEV cell.

    Cameras see an object's heading relative to the ray to it, a head regresses it in the LiDAR frame: a query has to
    know in which direction it looks to turn one into the other.

    Args:
        embed_dims: C.
        bev_shape: (H, W).
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
    """

    def __init__(self, embed_dims: int, bev_shape: tuple[int, int], pc_range: list[float]) -> None:
        super().__init__()
        self.register_buffer('facts', cell_facts(bev_shape, pc_range), persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(NUM_FACTS, embed_dims), nn.ReLU(inplace=True), nn.Linear(embed_dims, embed_dims)
        )

    def forward(self) -> Tensor:
        """(H * W, C)."""
        return self.embed(self.facts)


def cell_facts(bev_shape: tuple[int, int], pc_range: list[float]) -> Tensor:
    """Place, distance and direction of every cell centre as seen from the LiDAR, all within [-1, 1].

    Returns:
        (H * W, 7): x, y and distance in units of the range; cosine and sine of the direction and of twice as much.
    """
    low, high = torch.tensor(pc_range[:2]), torch.tensor(pc_range[3:5])
    place = plane_points(*bev_shape, torch.device('cpu')) * (high - low) + low
    unit = place / torch.stack([low, high]).norm(dim=1).max()
    angle = torch.atan2(place[:, 1], place[:, 0])
    around = [angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()]
    return torch.stack([unit[:, 0], unit[:, 1], unit.norm(dim=1), *around], dim=1)

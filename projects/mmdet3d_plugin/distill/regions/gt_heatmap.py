"""Gaussian heatmaps of ground-truth boxes on the BEV map. Pure tensor functions, no loops over boxes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.regions.region import Range, Region, join_boxes, pc_range_of
from projects.mmdet3d_plugin.distill.registry import REGIONS
from projects.mmdet3d_plugin.distill.step import Step


@REGIONS.register_module()
class GTHeatmap(Region):
    """Gaussian heatmap of the ground-truth boxes on the BEV map, maximum over all classes.

    Args:
        min_overlap: overlap that a box moved by the radius still has, as in CenterPoint; smaller is wider.
        min_radius: least radius in cells.
        legacy: draw on the published 0.8 m grid and enlarge by nearest neighbour, which puts cells up to 0.4 m off.
        legacy_cell: cell of that grid in metres.
    """

    def __init__(
        self, min_overlap: float = 0.1, min_radius: int = 2, legacy: bool = False, legacy_cell: float = 0.8
    ) -> None:
        super().__init__()
        if not 0 < min_overlap < 1:
            raise ValueError(f'min_overlap must lie between 0 and 1, got {min_overlap}')
        if legacy_cell <= 0:
            raise ValueError(f'legacy_cell must be above 0 m, got {legacy_cell}')
        self.min_overlap = min_overlap
        self.min_radius = min_radius
        self.legacy = legacy
        self.legacy_cell = legacy_cell

    def forward(self, step: Step, like: Tensor) -> Tensor:
        """Weights at the resolution of a feature.

        Args:
            step: its batch gives ``gt_bboxes_3d`` (list of B boxes, LiDAR frame, metres) and ``pc_range``.
            like: (B, C, H, W), the teacher's BEV feature.

        Returns:
            (B, 1, H, W) in [0, 1], 1 at box centres; row = y, column = x. All 0 where there are no boxes.
        """
        boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], like.device)
        limits = pc_range_of(step.batch['img_metas'])
        size = tuple(like.shape[-2:])
        if self.legacy:
            size = tuple(round((limits[i + 3] - limits[i]) / self.legacy_cell) for i in (1, 0))
        heatmap = box_heatmap(boxes, sample, limits, size, like.shape[0], self.min_overlap, self.min_radius)
        return F.interpolate(heatmap, size=like.shape[-2:], mode='nearest') if self.legacy else heatmap


def box_heatmap(
    boxes: Tensor,
    sample: Tensor,
    limits: Range,
    size: tuple[int, int],
    batch_size: int,
    min_overlap: float = 0.1,
    min_radius: int = 2,
    clamp: bool = False,
) -> Tensor:
    """Draw one Gaussian per box on a BEV grid.

    Args:
        boxes: (M, 7+) ``(x, y, z, l, w, h, yaw)`` in metres.
        sample: (M,) index of each box's sample.
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres, what the grid covers.
        size: (H, W) of the grid; row = y, column = x.
        batch_size: B.
        min_overlap: see :func:`gaussian_radius`.
        min_radius: least radius in cells.
        clamp: see :func:`to_cells`.

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    centre, extent, inside = to_cells(boxes, limits, size, clamp)
    inside &= (extent > 0).all(1)
    radius = gaussian_radius(extent[inside, 0], extent[inside, 1], min_overlap).long().clamp(min=min_radius)
    return draw_gaussians(centre[inside].long(), radius, sample[inside], size, batch_size)


def to_cells(
    boxes: Tensor, limits: Range, size: tuple[int, int], clamp: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Where boxes lie on a BEV grid.

    Args:
        boxes: (M, 5+) ``(x, y, z, l, w, ...)`` in metres.
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres, what the grid covers.
        size: (H, W) of the grid; row = y, column = x.
        clamp: move centres from outside to the nearest cell of the border, as OpenPCDet does, instead of leaving them out.

    Returns:
        (M, 2) centres (column, row) and (M, 2) length and width, both in cells, and (M,) whether the centre is inside.
    """
    low = boxes.new_tensor(limits[:2])
    cell = (boxes.new_tensor(limits[3:5]) - low) / boxes.new_tensor(size[::-1])
    centre = (boxes[:, :2] - low) / cell
    if clamp:
        centre = torch.minimum(centre.clamp(min=0), centre.new_tensor(size[::-1]) - 0.5)
    inside = ((centre >= 0) & (centre < centre.new_tensor(size[::-1]))).all(1)
    return centre, boxes[:, 3:5] / cell, inside


def gaussian_radius(length: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """How far a box may move so that its overlap with itself stays above a limit, as CornerNet and CenterPoint do.

    The smallest ``(b + sqrt(b^2 - 4 a c)) / 2`` of three quadratics: both corners inside, both outside, and one of
    each. (The root formula would divide by ``2 a``; the published heatmaps do not.)

    Args:
        length: (M,) in cells.
        width: (M,) in cells.
        min_overlap: the limit, in (0, 1).

    Returns:
        (M,) radius in cells.
    """
    total, area = length + width, length * width
    cases = (
        (1.0, total, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * total, area * (1 - min_overlap)),
        (4.0 * min_overlap, -2 * min_overlap * total, area * (min_overlap - 1)),
    )
    roots = [(b + (b.square() - 4 * a * c).clamp(min=0).sqrt()) / 2 for a, b, c in cases]
    return torch.stack(roots).amin(0)


def draw_gaussians(
    centre: Tensor, radius: Tensor, sample: Tensor, size: tuple[int, int], batch_size: int
) -> Tensor:
    """Draw Gaussians of sigma ``(2 r + 1) / 6``, cut to squares of side ``2 r + 1``, keeping the maximum.

    Args:
        centre: (M, 2) integer cells (column, row).
        radius: (M,) integer cells.
        sample: (M,) index of each Gaussian's sample.
        size: (H, W).
        batch_size: B.

    Returns:
        (B, 1, H, W) float32, exactly 1 at each centre.
    """
    h, w = size
    canvas = torch.zeros(batch_size * h * w, device=centre.device)
    reach = min(int(radius.max()), max(h, w)) if len(radius) else 0  # whatever the size of a box
    offset = torch.arange(-reach, reach + 1, device=centre.device)
    column, row = centre[:, :1] + offset, centre[:, 1:] + offset
    near = offset.abs() <= radius[:, None]
    bell = torch.exp(-offset.square() / (2 * ((2 * radius[:, None] + 1) / 6).square())) * near
    bell_x = bell * ((column >= 0) & (column < w))
    bell_y = bell * ((row >= 0) & (row < h))
    value = bell_y[:, :, None] * bell_x[:, None, :]
    index = (sample[:, None, None] * h + row.clamp(0, h - 1)[:, :, None]) * w + column.clamp(0, w - 1)[
        :, None, :
    ]
    canvas.scatter_reduce_(0, index.flatten(), value.flatten(), reduce='amax')
    return canvas.view(batch_size, 1, h, w)

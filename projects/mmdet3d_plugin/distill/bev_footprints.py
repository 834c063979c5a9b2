"""Where boxes stand on the BEV map: rotated footprints, drawn for all boxes at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.instance_region import InstanceRegion
from projects.mmdet3d_plugin.distill.instances import Instances
from projects.mmdet3d_plugin.distill.regions import Range, pc_range_of
from projects.mmdet3d_plugin.distill.registry import REGIONS
from projects.mmdet3d_plugin.distill.step import Step


@REGIONS.register_module()
class BEVFootprint(InstanceRegion):
    """Cells that instances cover on the BEV map (the paper's instance-level areas, seen from above).

    Args:
        margin: metres by which every box is enlarged on each side.
        source: whose boxes, see :class:`InstanceSource`.
        top_k: see there.
        min_score: see there.
        gate: see there.
    """

    def __init__(
        self,
        margin: float = 0.0,
        source: str = 'gt',
        top_k: int = 100,
        min_score: float = 0.1,
        gate: float | None = None,
    ) -> None:
        super().__init__(source, top_k, min_score, gate)
        self.margin = margin

    def draw(self, instances: Instances, step: Step, like: Tensor) -> Tensor:
        """Footprints at the resolution of the BEV feature.

        Args:
            instances: what to draw.
            step: its ``img_metas`` give ``pc_range``.
            like: (B, C, H, W), the teacher's BEV feature; row = y, column = x.

        Returns:
            (B, 1, H, W).
        """
        limits, size = pc_range_of(step.batch['img_metas']), tuple(like.shape[-2:])
        boxes, sample, weight = instances.boxes, instances.sample, instances.weight
        return draw_footprints(boxes, sample, limits, size, like.shape[0], weight, self.margin)


def draw_footprints(
    boxes: Tensor,
    sample: Tensor,
    limits: Range,
    size: tuple[int, int],
    batch_size: int,
    weight: Tensor | None = None,
    margin: float = 0.0,
) -> Tensor:
    """Draw rotated rectangles on a BEV grid; where some overlap, the largest weight counts.

    A cell belongs to a box when its centre lies inside or on the border. A box between the centres keeps the cell
    that its own centre lies in, so that no visible object vanishes.

    Args:
        boxes: (M, 7+) ``(x, y, z, l, w, h, yaw)`` in metres, LiDAR frame.
        sample: (M,) index of each box's sample.
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres, what the grid covers.
        size: (H, W) of the grid; row = y, column = x.
        batch_size: B.
        weight: (M,) weights >= 0, 1 by default; gradients flow to them.
        margin: metres added on each side.

    Returns:
        (B, 1, H, W).
    """
    h, w = size
    weight = boxes.new_ones(len(boxes)) if weight is None else weight
    cell = _cell_size(boxes, limits, size)
    home = ((boxes[:, :2] - boxes.new_tensor(limits[:2])) / cell).floor()
    column, row = _neighbours(home, _reach(boxes, cell, margin))
    place = torch.stack(torch.broadcast_tensors(column[:, None, :], row[:, :, None]), dim=-1)
    centre = (place + 0.5) * cell + boxes.new_tensor(limits[:2])
    covered = _inside(centre, boxes, margin) | (place == home[:, None, None]).all(-1)
    covered = covered & ((place >= 0) & (place < place.new_tensor([w, h]))).all(-1)
    return _paint(place, covered, weight, sample, size, batch_size)


def _cell_size(boxes: Tensor, limits: Range, size: Sequence[int]) -> Tensor:
    """(2,) metres per cell along x and y."""
    low, high = boxes.new_tensor(limits[:2]), boxes.new_tensor(limits[3:5])
    return (high - low) / boxes.new_tensor([size[1], size[0]])


def _reach(boxes: Tensor, cell: Tensor, margin: float) -> int:
    """Cells from a box's centre that cover the largest of the boxes, whatever its heading."""
    if len(boxes) == 0:
        return 0
    radius = torch.hypot(boxes[:, 3] / 2 + margin, boxes[:, 4] / 2 + margin).max()
    return int((radius / cell.min()).ceil()) + 1


def _neighbours(home: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Columns and rows around cells (M, 2): two (M, 2 * reach + 1) tensors."""
    offset = torch.arange(-reach, reach + 1, device=home.device, dtype=home.dtype)
    return home[:, :1] + offset, home[:, 1:] + offset


def _inside(points: Tensor, boxes: Tensor, margin: float) -> Tensor:
    """Which of the points (M, K, K, 2) lie in their box (M, 7+), seen from above: (M, K, K)."""
    offset = points - boxes[:, None, None, :2]
    cos, sin = boxes[:, 6].cos()[:, None, None], boxes[:, 6].sin()[:, None, None]
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    half = boxes[:, None, None, 3:5] / 2 + margin
    return (along.abs() <= half[..., 0]) & (across.abs() <= half[..., 1])


def _paint(
    place: Tensor, covered: Tensor, weight: Tensor, sample: Tensor, size: tuple[int, int], batch_size: int
) -> Tensor:
    """Maximum of the weights (M,) over the covered cells: (B, 1, H, W)."""
    h, w = size
    box = covered.nonzero()[:, 0]
    x, y = place[covered].long().unbind(-1)
    canvas = weight.new_zeros(batch_size * h * w)
    canvas = canvas.scatter_reduce(0, (sample[box] * h + y) * w + x, weight[box], reduce='amax')
    return canvas.view(batch_size, 1, h, w)

"""Where boxes stand on the BEV map: rotated footprints, drawn for all boxes at once."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.regions.instances import InstanceRegion, Instances
from projects.mmdet3d_plugin.distill.regions.region import Range, cells_between, pc_range_of
from projects.mmdet3d_plugin.distill.registry import REGIONS, DistillError
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

    Raises:
        DistillError: a box holds a number that is not finite.
    """
    h, w = size
    weight = boxes.new_ones(len(boxes)) if weight is None else weight
    box, row, column = footprint_cells(boxes, limits, size, margin)
    canvas = weight.new_zeros(batch_size * h * w)
    canvas = canvas.scatter_reduce(0, (sample[box] * h + row) * w + column, weight[box], reduce='amax')
    return canvas.view(batch_size, 1, h, w)


def footprint_cells(
    boxes: Tensor, limits: Range, size: tuple[int, int], margin: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Which cells of a BEV grid rotated rectangles cover, as :func:`draw_footprints` has it; arguments as there.

    Returns:
        (P,) index of the box, (P,) row and (P,) column, for every pair of a box and a cell that it covers.
    """
    h, w = size
    if not boxes[:, :7].isfinite().all():
        raise DistillError(
            'a box to be drawn holds a number that is not finite: look at annotations and teacher'
        )
    low = boxes.new_tensor(limits[:2])
    cell = (boxes.new_tensor(limits[3:5]) - low) / boxes.new_tensor([w, h])
    home = ((boxes[:, :2] - low) / cell).floor()
    # Each box has a window of its own, cut at the border: one absurd box costs no more than the map has cells.
    radius = torch.hypot(boxes[:, 3] / 2 + margin, boxes[:, 4] / 2 + margin)
    reach = (radius[:, None] / cell).ceil() + 1
    last = home.new_tensor([w - 1, h - 1])
    box, place = cells_between((home - reach).clamp(min=0), torch.minimum(home + reach, last))
    covered = _inside((place + 0.5) * cell + low, boxes[box], margin) | (place == home[box]).all(-1)
    column, row = place[covered].long().unbind(-1)
    return box[covered], row, column


def _inside(points: Tensor, boxes: Tensor, margin: float) -> Tensor:
    """Which of the points (P, 2) lie in their box (P, 7+), seen from above: (P,)."""
    offset = points - boxes[:, :2]
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    along = offset[:, 0] * cos + offset[:, 1] * sin
    across = offset[:, 1] * cos - offset[:, 0] * sin
    half = boxes[:, 3:5] / 2 + margin
    return (along.abs() <= half[:, 0]) & (across.abs() <= half[:, 1])

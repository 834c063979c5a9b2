"""Features at points of boxes: UniDistill and TiG-BEV in one loss, in metres."""

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.bev_grid import in_units
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.regions.instances import Instances, InstanceSource
from projects.mmdet3d_plugin.distill.regions.region import pc_range_of
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step

COMPARE = ('features', 'cosines', 'keypoints', 'channels')


@LOSSES.register_module()
class BoxKeypoints(DistillLoss):
    """Compare two BEV maps at points of each box, or how the features of these points relate to one another.

    - 'features': ``mean_{points, channels} |S - T|`` (UniDistill, Zhou et al., CVPR 2023, feature distillation);
    - 'cosines': ``mean_{i, j} |cos(S_i, S_j) - cos(T_i, T_j)|`` over pairs of points (its relation distillation);
    - 'keypoints': rows of ``f f^T`` over points, each of length 1, ``mean_rows sum (K_S - K_T)^2`` (TiG-BEV, Huang et al.,
      2022, inter-keypoint);
    - 'channels': the same of ``f^T f`` over channels (its inter-channel).

    Then the mean over boxes, weighted by their gate, and over samples. Points are in metres, so maps of any cell size
    compare without being resized. 'cosines' and 'keypoints' need no connector whatever the numbers of channels are, and
    survive a gap of modality better than values do.

    Args:
        points: 9 = the corners, the middles of the edges and the centre of a box seen from above; (m, n) = a grid of m points
            along its length and n across, cell-centred.
        compare: what, see above.
        margin: metres by which every box is enlarged on each side.
        source: whose boxes, see :class:`InstanceSource`.
        top_k: see there.
        min_score: see there.
        gate: see there.
    """

    def __init__(
        self,
        points: int | tuple[int, int] = 9,
        compare: str = 'features',
        margin: float = 0.0,
        source: str = 'gt',
        top_k: int = 100,
        min_score: float = 0.1,
        gate: float | None = None,
    ) -> None:
        super().__init__()
        if compare not in COMPARE:
            raise ValueError(f'compare must be one of {COMPARE}, got {compare!r}')
        if points != 9 and (isinstance(points, int) or min(points) < 1):
            raise ValueError(f'points must be 9 or a grid such as (24, 24), got {points!r}')
        self.compare, self.margin = compare, margin
        self.instances = InstanceSource(source, top_k, min_score, gate)
        self.needs_queries = self.instances.needs_queries
        self.register_buffer('points', unit_points(points), persistent=False)

    def forward(self, student: Tensor, teacher: Tensor, *, step: Step) -> Tensor:
        """Distance between the maps at the points of boxes.

        Args:
            student: (B, C, H, W), row = y, column = x.
            teacher: (B, D, h, w) of the same metres, constant; D = C for 'features' and 'channels'.
            step: with the boxes, and ``pc_range`` in its ``img_metas``.

        Returns:
            Scalar.
        """
        limits = pc_range_of(step.batch['img_metas'])
        found = inside(self.instances(step, student.device), limits)
        if self.compare in ('features', 'channels'):
            check_same_shape(student[:, :, :1, :1], teacher[:, :, :1, :1])
        if not len(found.boxes):
            return 0 * student.sum()
        places = in_units(self.places(found.boxes.to(student)), limits)
        ours, theirs = (sample_boxes(feature, found.sample, places) for feature in (student, teacher))
        gap = self.gap(ours, theirs)
        weight = found.weight.to(gap)
        count = gap.new_zeros(len(student)).index_add(0, found.sample, weight).clamp(min=1e-6)
        return (gap * weight / count[found.sample]).sum() / len(student)

    def places(self, boxes: Tensor) -> Tensor:
        """Points (M, N, 2) of boxes (M, 7+), ``(x, y)`` in metres."""
        along, across = (self.points.to(boxes) * (boxes[:, None, 3:5] + 2 * self.margin) / 2).unbind(-1)
        cos, sin = boxes[:, 6, None].cos(), boxes[:, 6, None].sin()
        turned = torch.stack([along * cos - across * sin, along * sin + across * cos], dim=-1)
        return boxes[:, None, :2] + turned

    def gap(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Distance (M,) between the features (M, N, C) of each box's N points."""
        if self.compare == 'features':
            return (student - teacher).abs().mean((1, 2))
        if self.compare == 'cosines':
            return (
                (_gram(F.normalize(student, dim=2)) - _gram(F.normalize(teacher, dim=2))).abs().mean((1, 2))
            )
        if self.compare == 'channels':
            student, teacher = student.transpose(1, 2), teacher.transpose(1, 2)
        ours, theirs = (F.normalize(_gram(part), dim=2) for part in (student, teacher))
        return (ours - theirs).square().sum(2).mean(1)


def unit_points(points: int | tuple[int, int]) -> Tensor:
    """Points (N, 2) of a box, ``(along, across)`` in units of half its length and width."""
    if points == 9:
        return torch.cartesian_prod(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3))
    axes = [2 * (torch.arange(count) + 0.5) / count - 1 for count in points]
    return torch.cartesian_prod(*axes)


def inside(instances: Instances, limits: list[float]) -> Instances:
    """Instances whose centres lie within ``[x0, y0, z0, x1, y1, z1]`` metres and that count at all."""
    x, y = instances.boxes[:, :2].unbind(1)
    kept = (x >= limits[0]) & (y >= limits[1]) & (x < limits[3]) & (y < limits[4]) & (instances.weight > 0)
    return Instances(instances.boxes[kept], instances.sample[kept], instances.weight[kept])


def sample_boxes(feature: Tensor, sample: Tensor, places: Tensor) -> Tensor:
    """Features at points of boxes, all boxes at once, without a copy of the map for each.

    Args:
        feature: (B, C, H, W).
        sample: (M,) each box's sample, ascending or not.
        places: (M, N, 2) as ``grid_sample`` wants them; 0 outside.

    Returns:
        (M, N, C).
    """
    found = []
    for i in range(len(feature)):  # boxes of one sample are rows of one grid
        grid = places[sample == i]
        found.append(F.grid_sample(feature[i : i + 1], grid[None], align_corners=False)[0].permute(1, 2, 0))
    order = torch.cat([(sample == i).nonzero()[:, 0] for i in range(len(feature))])
    return torch.cat(found)[order.argsort()]


def _gram(rows: Tensor) -> Tensor:
    """(M, N, C) -> (M, N, N)."""
    return rows @ rows.transpose(1, 2)

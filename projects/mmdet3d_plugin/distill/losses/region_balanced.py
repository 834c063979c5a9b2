"""DistillBEV (Wang et al., ICCV 2023): every kind of region counts for itself, whatever its area."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.center_heads import teacher_heatmap
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape, share_of_area
from projects.mmdet3d_plugin.distill.regions.bev_footprint import draw_footprints, footprint_cells
from projects.mmdet3d_plugin.distill.regions.box_area import spatial_attention
from projects.mmdet3d_plugin.distill.regions.gt_heatmap import box_heatmap
from projects.mmdet3d_plugin.distill.regions.region import Range, join_boxes, join_labels, pc_range_of
from projects.mmdet3d_plugin.distill.regions.teacher_boxes import teacher_boxes
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2

HEATS = ('heads', 'boxes')
ATTENTION = ('teacher', 'both', 'none')


@LOSSES.register_module()
class RegionBalanced(DistillLoss):
    """Squared distance of BEV maps, region by region: true and false positives and negatives of the teacher.

    ``sum_r weight_r * sum_cells(w_r A mean_c (S - T)^2) / sum_cells(w_r)`` per sample, then the mean over samples ("region
    decomposition"). The regions r are the footprints of objects that the teacher sees (true positives), of those that it
    overlooks (false negatives), cells where it is sure of something and the ground truth's heatmap of nothing (false
    positives), and the rest. Within footprints ``w = sqrt(cell / (length width))``, so that a large object does not
    outweigh a small one ("adaptive scaling"); else 1. ``A = h w softmax(mean_c |T| / temperature)`` is the teacher's
    spatial attention, or the mean of both. The area of every region is divided out, so the weights carry over between
    sizes of maps; the published code's depend on them, and on the number of channels.

    To this comes ``attention_weight * mean_cells |conv(mean_c S) - mean_c T|`` (spatial attention imitation).

    Args:
        true_positive: weight of objects that the teacher sees.
        false_negative: weight of objects that it overlooks.
        false_positive: weight of where it sees what is not there; published with more weight than the rest.
        true_negative: weight of the rest.
        threshold: of heat, above which the teacher is sure, and below which the ground truth is.
        heat: 'heads' = the teacher's centre heads; 'boxes' = Gaussians at its final boxes, which every teacher has.
        attention: 'teacher', 'both' (published for BEVDepth), or 'none'.
        temperature: of the attention.
        attention_weight: of the imitation of spatial attention.
    """

    def __init__(
        self,
        true_positive: float = 1.0,
        false_negative: float = 1.0,
        false_positive: float = 0.1,
        true_negative: float = 0.05,
        threshold: float = 0.1,
        heat: str = 'heads',
        attention: str = 'teacher',
        temperature: float = 0.5,
        attention_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if heat not in HEATS or attention not in ATTENTION:
            raise ValueError(
                f'heat must be one of {HEATS} and attention of {ATTENTION}, got {heat!r}, {attention!r}'
            )
        weights = (true_positive, false_negative, false_positive, true_negative)
        if min(*weights, attention_weight) < 0 or temperature <= 0 or not 0 < threshold < 1:
            raise ValueError('weights must be >= 0, temperature > 0 and threshold between 0 and 1')
        self.weights, self.threshold, self.heat = weights, threshold, heat
        self.attention, self.temperature, self.attention_weight = attention, temperature, attention_weight
        self.imitation = nn.Conv2d(1, 1, 3, padding=1) if attention_weight else None

    def forward(self, student: Tensor, teacher: Tensor, *, step: Step) -> Tensor:
        """Distance between two BEV maps.

        Args:
            student: (B, C, H, W), row = y, column = x.
            teacher: (B, C, H, W), constant.
            step: with ground truth and, of the teacher, heatmaps or boxes.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        regions = self.regions(step, teacher)
        weight = sum(
            factor * share_of_area(region) for factor, region in zip(self.weights, regions, strict=True)
        )
        loss = masked_l2(student, teacher, self.attended(weight, student, teacher) / max(student.shape[1], 1))
        if self.imitation is None:
            return loss
        ours, theirs = self.imitation(student.mean(1, keepdim=True)), teacher.mean(1, keepdim=True)
        return loss + self.attention_weight * (ours - theirs).abs().mean()

    def attended(self, weight: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
        """Weights (B, 1, H, W) times the attention of maps (B, C, H, W), a constant of mean 1."""
        if self.attention == 'none':
            return weight.to(student)
        looks = [spatial_attention(teacher, self.temperature)]
        if self.attention == 'both':
            looks.append(spatial_attention(student.detach(), self.temperature))
        return weight.to(student) * torch.stack(looks).mean(0)

    def regions(self, step: Step, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the teacher does right and wrong.

        Args:
            step: with ground truth and, of the teacher, heatmaps or boxes.
            like: (B, C, H, W), the teacher's BEV map.

        Returns:
            Weights (B, 1, H, W) of true positives, false negatives, false positives and true negatives; no cell has two.
        """
        limits, (b, _, *size) = pc_range_of(step.batch['img_metas']), like.shape
        boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], like.device)
        heat = self.teacher_heat(step, like, limits)
        labels = join_labels(step.batch['gt_labels_3d'], like.device)
        seen = peak_in_boxes(heat, boxes, sample, labels, limits) > self.threshold
        cell = (limits[3] - limits[0]) * (limits[4] - limits[1]) / (size[0] * size[1])
        scale = (cell / boxes[:, 3:5].prod(1).clamp(min=cell)).sqrt()
        right, missed = (
            draw_footprints(boxes[mine], sample[mine], limits, tuple(size), b, scale[mine])
            for mine in (seen, ~seen)
        )
        missed = missed * (right == 0)
        rest = (right == 0) & (missed == 0)
        truth = box_heatmap(boxes, sample, limits, tuple(size), b)
        wrong = rest & (heat.amax(1, keepdim=True) > self.threshold) & (truth < self.threshold)
        return right, missed, wrong.to(right), (rest & ~wrong).to(right)

    def teacher_heat(self, step: Step, like: Tensor, limits: Range) -> Tensor:
        """How sure the teacher is of each class, (B, K, H, W), at the resolution of a BEV map (B, C, H, W)."""
        size = tuple(like.shape[-2:])
        if self.heat == 'boxes':
            found = teacher_boxes(step, like.device, 500, self.threshold)
            labels = join_labels(step.batch['gt_labels_3d'], like.device)
            kinds = int(torch.cat([found.labels, labels, labels.new_zeros(1)]).max()) + 1
            channel = found.sample * kinds + found.labels
            return box_heatmap(found.boxes, channel, limits, size, len(like) * kinds).view(
                len(like), kinds, *size
            )
        heat = step.align(teacher_heatmap(step))
        if heat.shape[-1] > size[-1]:  # a peak must not vanish between coarser cells
            return F.adaptive_max_pool2d(heat, size)
        return F.interpolate(heat, size=size, mode='bilinear', align_corners=False)


def peak_in_boxes(heat: Tensor, boxes: Tensor, sample: Tensor, labels: Tensor, limits: Range) -> Tensor:
    """The greatest heat of its own class within each box's footprint.

    Args:
        heat: (B, K, H, W).
        boxes: (M, 7+), LiDAR frame, metres.
        sample: (M,).
        labels: (M,).
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres of the heat.

    Returns:
        (M,); 0 for boxes outside.
    """
    box, row, column = footprint_cells(boxes, limits, tuple(heat.shape[-2:]))
    inside = heat[sample[box], labels[box], row, column]
    return heat.new_zeros(len(boxes)).scatter_reduce(0, box, inside, reduce='amax')

"""SparseKD (Yang et al., NeurIPS 2022): class logits of CenterPoint, compared at pivotal positions only."""

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.bev_grid import cell_centres
from projects.mmdet3d_plugin.distill.center_heads import Heads, boxes_by_task, check_same_tasks
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions.gt_heatmap import box_heatmap
from projects.mmdet3d_plugin.distill.regions.region import Range, pc_range_of
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2

MASKS = ('gaussian', 'confidence', 'rank')
_CLAMP = 1e-4


@LOSSES.register_module()
class PivotalLogit(DistillLoss):
    """Squared difference of two heatmaps, summed over classes, averaged over what the pivotal positions weigh.

    Per task: ``sum_bhw(w * sum_c (p_S - p_T)^2) / (sum_bhw(w) + 1e-6)`` with probabilities p, then the mean over
    tasks. As published, one normaliser serves the whole batch: a sample counts as much as its positions weigh.

    A student on a coarser grid is looked up bilinearly at the teacher's cell centres, in metres, so that two ranges
    which differ by a few cells stay aligned; cells that the student does not cover weigh nothing.

    Args:
        pc_range: ``[x0, y0, z0, x1, y1, z1]`` in metres that the student's heatmap covers; as ``img_metas`` say, if None.
        teacher_range: the same of the teacher's, where it differs.
        mask: 'gaussian': the teacher's confidence times the Gaussians of the ground truth (the paper's best);
            'confidence': the teacher's confidence alone; 'rank': that at the teacher's ``top_k`` surest cells.
        threshold: confidences not above it weigh nothing.
        top_k: cells per sample of 'rank'; clamped to the map.
        soft: False gives every cell that is kept the weight 1 in place of the teacher's confidence.
        min_overlap: of the Gaussians, as in the detector's own targets.
        min_radius: of the Gaussians, in the teacher's cells.
        compat: as published: with ``soft=False`` the Gaussians become 1 wherever they are above 0, and centres outside
            the range are drawn at the nearest cell of its border.
    """

    takes_connector = False

    def __init__(
        self,
        pc_range: Range | None = None,
        teacher_range: Range | None = None,
        mask: str = 'gaussian',
        threshold: float = 0.0,
        top_k: int = 500,
        soft: bool = True,
        min_overlap: float = 0.1,
        min_radius: int = 2,
        compat: bool = False,
    ) -> None:
        super().__init__()
        if mask not in MASKS:
            raise ValueError(f'mask must be one of {MASKS}, got {mask!r}')
        if top_k < 1:
            raise ValueError(f'top_k must be at least 1, got {top_k}')
        self.pc_range, self.teacher_range = pc_range, teacher_range
        self.mask, self.threshold, self.top_k, self.soft = mask, threshold, top_k, soft
        self.min_overlap, self.min_radius, self.compat = min_overlap, min_radius, compat

    def forward(self, student: Heads, teacher: Heads, *, step: Step) -> Tensor:
        """Distance between the heatmaps of all tasks.

        Args:
            student: one dict per task with ``heatmap`` (B, K, h, w), logits.
            teacher: one dict per task with ``heatmap`` (B, K, H, W), logits, constant.
            step: gives the ground truth and the range.

        Returns:
            Scalar.
        """
        check_same_tasks(student, teacher)
        own = list(self.pc_range or pc_range_of(step.batch['img_metas']))
        limits = list(self.teacher_range or own)
        losses = []
        for *heads, truth in zip(student, teacher, boxes_by_task(step, teacher), strict=True):
            p_s, p_t = (head['heatmap'].sigmoid().clamp(_CLAMP, 1 - _CLAMP) for head in heads)
            weight = self.weight(p_t, *truth, limits)
            if p_s.shape != p_t.shape or own != limits:
                place = cell_centres(limits, own, p_t)
                p_s = F.grid_sample(p_s, place, padding_mode='border', align_corners=False)
                weight = weight * (place.abs() <= 1).all(-1)[:, None]
            losses.append(masked_l2(p_s, p_t, weight / (weight.sum() + 1e-6)))
        return torch.stack(losses).mean()

    def weight(self, confidences: Tensor, boxes: Tensor, sample: Tensor, limits: Range) -> Tensor:
        """How much each position counts.

        Args:
            confidences: (B, K, H, W) the teacher's probabilities.
            boxes: (M, 7) ground truth of this task.
            sample: (M,) their sample index.
            limits: ``[x0, y0, z0, x1, y1, z1]`` in metres of the teacher's heatmap.

        Returns:
            (B, 1, H, W), >= 0.
        """
        confidence = confidences.amax(1, keepdim=True)
        kept = confidence > self.threshold
        if self.mask == 'rank':
            flat = confidence.flatten(1)
            best = flat.topk(min(self.top_k, flat.shape[1])).indices
            kept &= torch.zeros_like(flat, dtype=torch.bool).scatter_(1, best, True).view_as(kept)
        weight = confidence * kept if self.soft else kept.to(confidences.dtype)
        if self.mask != 'gaussian':
            return weight
        size = tuple(confidences.shape[-2:])
        shape = (limits, size, len(confidences), self.min_overlap, self.min_radius)
        heatmap = box_heatmap(boxes, sample, *shape, clamp=self.compat)
        return weight * ((heatmap > 0).to(weight) if self.compat and not self.soft else heatmap)

"""SparseKD's regression distillation: CenterPoint's raw box parameters, compared at ground-truth centres."""

from collections.abc import Mapping

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.center_heads import Heads, boxes_by_task, check_same_tasks
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions.gt_heatmap import to_cells
from projects.mmdet3d_plugin.distill.regions.region import Range, pc_range_of
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step

WEIGHTS = {'reg': 1.0, 'height': 1.0, 'dim': 1.0, 'rot': 1.0, 'vel': 0.2}
"""Code weights of the published detectors: offset (2), height (1), log size (3), sine and cosine (2), velocity (2)."""


@LOSSES.register_module()
class CenterRegression(DistillLoss):
    """L1 distance of two detectors' box parameters at the centre cells of the ground truth.

    Per task: ``sum_d w_d * sum_i |r_S,id - r_T,id| / max(M, 1)`` over the M boxes of the batch and the raw outputs d
    of the heads, then the mean over tasks. Offsets count from the corner of a cell, so both grids must be the same;
    the published code silently gives 0 where they are not.

    Args:
        pc_range: ``[x0, y0, z0, x1, y1, z1]`` in metres that both heatmaps cover; as ``img_metas`` say, if None.
        weights: weight of each head's outputs; heads that a detector does not have are passed over.
        compat: as published: objects whose centre is outside the range count at the nearest cell of its border.
    """

    takes_connector = False

    def __init__(
        self, pc_range: Range | None = None, weights: Mapping[str, float] = WEIGHTS, compat: bool = False
    ) -> None:
        super().__init__()
        unknown = sorted(set(weights) - set(WEIGHTS))
        if unknown:
            raise ValueError(f'weights knows no head {unknown[0]!r}; known: {", ".join(WEIGHTS)}')
        self.pc_range, self.weights, self.compat = pc_range, dict(weights), compat

    def forward(self, student: Heads, teacher: Heads, *, step: Step) -> Tensor:
        """Distance between the box parameters of all tasks.

        Args:
            student: one dict per task of (B, D, H, W) raw outputs.
            teacher: the same, constant.
            step: gives the ground truth and the range that the heatmaps cover.

        Returns:
            Scalar.
        """
        check_same_tasks(student, teacher)
        limits = self.pc_range or pc_range_of(step.batch['img_metas'])
        truth = boxes_by_task(step, teacher)
        losses = [self._task(*item, limits) for item in zip(student, teacher, truth, strict=True)]
        return torch.stack(losses).mean()

    def _task(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        truth: tuple[Tensor, Tensor],
        limits: Range,
    ) -> Tensor:
        boxes, sample = truth
        size = tuple(teacher['heatmap'].shape[-2:])
        if student['heatmap'].shape[-2:] != size:
            raise ValueError(
                f"the student's heatmap is {tuple(student['heatmap'].shape[-2:])} and the teacher's {size}; regression "
                'distillation needs the same grid, leave the term out'
            )
        centre, _, inside = to_cells(boxes, limits, size, clamp=self.compat)
        column, row = centre[inside].long().unbind(1)
        at = (sample[inside], slice(None), row, column)
        keys = [key for key in self.weights if key in student and key in teacher]
        distance = [self.weights[key] * (student[key][at] - teacher[key][at]).abs().sum() for key in keys]
        return torch.stack(distance).sum() / max(len(row), 1)

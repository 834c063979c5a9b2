"""Squared distance between features, weighted by where it matters."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape, share_of_area
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2


@LOSSES.register_module()
class FeatureL2(DistillLoss):
    """Mean over channels of the squared difference, averaged over the region, then over samples.

    Per sample: ``sum(region * mean_c((S - T)^2)) / max(sum(region), 1)``. The weight of such a term carries over
    between feature widths, map sizes and batch sizes, and an empty region gives exactly 0.

    Args:
        legacy: the published form ``sum((region * S - region * T)^2) / sum(region)``: a sum over channels, the
            region squared, one normaliser for the batch. An empty region gives 0 here too, not the original's NaN.
    """

    def __init__(self, legacy: bool = False) -> None:
        super().__init__()
        self.legacy = legacy

    def forward(self, student: Tensor, teacher: Tensor, region: Tensor | None = None) -> Tensor:
        """Distance between two features.

        Args:
            student: (N, C, H, W).
            teacher: (N, C, H, W), constant.
            region: (N, 1, H, W) weights >= 0, or None for everywhere.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        n, _, h, w = student.shape
        if region is None:
            region = student.new_ones(n, 1, h, w)
        if region.shape != (n, 1, h, w):
            raise ValueError(f'the region is {tuple(region.shape)} but the features need {(n, 1, h, w)}')
        region = region.to(student.dtype)
        if self.legacy:
            area = region.sum()
            return masked_l2(student, teacher, region.square() / area.where(area > 0, torch.ones_like(area)))
        return masked_l2(student, teacher, share_of_area(region) / max(student.shape[1], 1))

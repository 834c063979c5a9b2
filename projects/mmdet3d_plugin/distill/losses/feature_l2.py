"""Squared distance between features, weighted by where it matters."""

from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.registry import LOSSES

_CACHED = 1 << 18
"""Elements worked on at a time on CPU, so that the difference stays in the second-level cache."""


@LOSSES.register_module()
class FeatureL2(DistillLoss):
    """Mean over channels of the squared difference, averaged over the region, then over samples.

    Per sample: ``sum(region * mean_c((S - T)^2)) / max(sum(region), 1)``. The weight of such a term carries over
    between feature widths, map sizes and batch sizes, and an empty region gives exactly 0.

    Args:
        legacy: the published form ``sum((region * S - region * T)^2) / sum(region)``: a sum over channels, the
            region squared, one normaliser for the batch. An empty region gives 0 here too, not the original's NaN.
    """

    takes_region = True

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
        n, c, h, w = student.shape
        if region is None:
            region = student.new_ones(n, 1, h, w)
        if region.shape != (n, 1, h, w):
            raise ValueError(f'the region is {tuple(region.shape)} but the features need {(n, 1, h, w)}')
        region = region.to(student.dtype)
        if self.legacy:
            area = region.sum()
            return weighted_square(
                student, teacher, region.square() / area.where(area > 0, torch.ones_like(area))
            )
        area = region.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        return weighted_square(student, teacher, region / (area * max(n * c, 1)))


def weighted_square(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """``sum(weight * (student - teacher)^2)``.

    Args:
        student: (N, C, H, W).
        teacher: (N, C, H, W), no gradient flows to it.
        weight: (N, 1, H, W), no gradient flows to it.

    Returns:
        Scalar; 0 with a live graph where all weights are 0.
    """
    return _WeightedSquare.apply(student, teacher.detach(), weight.detach())


class _WeightedSquare(torch.autograd.Function):
    """One read of both features forward, one read and one write backward; nothing of their size is kept."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        """Weighted square of features (N, C, H, W); a scalar."""
        ctx.save_for_backward(student, teacher, weight)
        total = student.new_zeros((), dtype=torch.float64)
        for i, span in _blocks(student):
            square = (student[i, span] - teacher[i, span]).square_().sum(0)
            total += torch.dot(square.flatten(), weight[i, 0].flatten())
        return total.to(student.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient for the student, (N, C, H, W)."""
        student, teacher, weight = ctx.saved_tensors
        slope = torch.empty_like(student)
        twice = weight * (2 * grad)
        for i, span in _blocks(student):
            torch.sub(student[i, span], teacher[i, span], out=slope[i, span]).mul_(twice[i])
        return slope, None, None


def _blocks(feature: Tensor) -> list[tuple[Any, slice]]:
    """Pairs (sample, span of channels) that cut a (N, C, H, W) feature into pieces that fit the cache."""
    n, c, h, w = feature.shape
    step = max(1, _CACHED // max(h * w, 1)) if feature.device.type == 'cpu' else max(c, 1)
    return [(i, slice(j, j + step)) for i in range(n) for j in range(0, c, step)]

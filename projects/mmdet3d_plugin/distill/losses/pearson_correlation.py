"""PKD (Cao et al., NeurIPS 2022): features are compared by their correlation, whatever their scale."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.registry import LOSSES

_FLAT = 1e-10  # variance over mean square below which a channel is the same everywhere, but for rounding


@LOSSES.register_module()
class PearsonCorrelation(DistillLoss):
    """``mean_{n, c} (1 - r)``, r being the Pearson correlation of a channel of the student with the teacher's.

    Every channel is brought to mean 0 and variance 1; half the mean squared difference is then ``1 - r``. Magnitudes,
    by which detectors with different heads differ most, do not count, so that such detectors can teach one another, and
    only the weight is left to choose. A channel that is the same everywhere is 0 and learns nothing.

    Args:
        over_batch: take mean and variance over all maps of a batch, as published. By default they are those of each map, so
            that what a sample costs does not depend on its company.
    """

    def __init__(self, over_batch: bool = False) -> None:
        super().__init__()
        self.over_batch = over_batch

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """How far two features are from being proportional, channel by channel.

        Args:
            student: (N, C, H, W).
            teacher: (N, C, H, W), constant.

        Returns:
            Scalar, from 0 to 2.
        """
        check_same_shape(student, teacher)
        if student.numel() == 0:
            return student.sum() * 0
        ours, theirs = (standardised(feature, self.over_batch) for feature in (student, teacher))
        return (ours - theirs).square().mean() / 2


def standardised(feature: Tensor, over_batch: bool) -> Tensor:
    """A feature (N, C, H, W) whose channels have mean 0 and variance 1, over each map or over the batch; 0 where flat."""
    axes = (0, 2, 3) if over_batch else (2, 3)
    centred = feature - feature.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    flat = variance <= _FLAT * feature.square().mean(axes, keepdim=True)
    return centred * variance.masked_fill(flat, torch.inf).rsqrt()

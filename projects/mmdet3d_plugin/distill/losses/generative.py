"""Masked feature generation (MGD, ECCV 2022), inside regions: what FD3D calls generative distillation."""

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.losses.feature_l2 import mean_square_inside
from projects.mmdet3d_plugin.distill.registry import LOSSES


@LOSSES.register_module()
class MaskedGeneration(DistillLoss):
    """Drop some of the student's cells inside the region and generate the teacher's feature from what is left.

    The generator (conv3x3, ReLU, conv3x3) is trained along and saved under ``distill.<term>.loss.generator``. The
    loss is a mean over channels, normalised by area per sample, so its weight carries over between resolutions.

    Args:
        channels: C of both features, after the connector.
        ratio: share of the region's cells that are dropped (lambda of the paper).
        background: weight of cells outside the region, which are never dropped.
    """

    takes_region = True

    def __init__(self, channels: int, ratio: float = 0.65, background: float = 0.0) -> None:
        super().__init__()
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio must lie between 0 and 1, got {ratio}')
        if background < 0:
            raise ValueError(f'background must be >= 0, got {background}')
        self.ratio, self.background = ratio, background
        self.generator = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, student: Tensor, teacher: Tensor, region: Tensor | None = None) -> Tensor:
        """Distance between the generated and the teacher's feature.

        Args:
            student: (N, C, H, W), after the connector.
            teacher: (N, C, H, W), constant.
            region: (N, 1, H, W) weights >= 0, or None for everywhere.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        if region is None:
            region = torch.ones_like(student[:, :1])
        weight = torch.where(region > 0, region, self.background).to(student.dtype)
        return mean_square_inside(self.generator(self.drop(student, region)), teacher, weight)

    def drop(self, student: Tensor, region: Tensor) -> Tensor:
        """Zero a random ``ratio`` of the region's cells in all channels.

        Args:
            student: (N, C, H, W).
            region: (N, 1, H, W).

        Returns:
            (N, C, H, W).
        """
        dropped = (torch.rand(region.shape, device=region.device) < self.ratio) & (region > 0)
        return student.masked_fill(dropped, 0.0)

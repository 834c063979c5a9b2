"""Masked feature generation (MGD, ECCV 2022), inside regions: what FD3D calls generative distillation."""

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.losses.feature_l2 import mean_square_inside
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step


@LOSSES.register_module()
class MaskedGeneration(DistillLoss):
    """Drop some of the student's cells inside the region and generate the teacher's feature from what is left.

    The generator (conv3x3, ReLU, conv3x3) is trained along and saved under ``distill.<term>.loss.generator``. The
    loss is a mean over channels, normalised by area per sample, so its weight carries over between resolutions.

    Args:
        channels: C of both features, after the connector.
        ratio: share of the region's cells that are dropped (lambda of the paper).
        background: weight of cells outside the region, which are never dropped; a region with a gate scales it by
            the expert's confidence that there is nothing.
        name: of the term; later terms find the generated feature under it.
    """

    takes_region = True
    takes_background = True
    reads_step = True
    generates = True

    def __init__(
        self, channels: int, ratio: float = 0.65, background: float = 0.0, name: str = 'masked_generation'
    ) -> None:
        super().__init__()
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio must lie between 0 and 1, got {ratio}')
        if background < 0:
            raise ValueError(f'background must be >= 0, got {background}')
        self.ratio, self.background, self.name = ratio, background, name
        self.generator = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        region: Tensor | None = None,
        *,
        background: Tensor | None = None,
        step: Step | None = None,
    ) -> Tensor:
        """Distance between the generated and the teacher's feature.

        Args:
            student: (N, C, H, W), after the connector.
            teacher: (N, C, H, W), constant.
            region: (N, 1, H, W) weights >= 0, or None for everywhere.
            background: (N, 1, H, W) factors of the background's weight, or None for 1.
            step: where the generated feature (N, C, H, W) is left.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        if region is None:
            region = torch.ones_like(student[:, :1])
        generated = self.generator(self.drop(student, region))
        if step is not None:
            step.generated[self.name] = generated
        outside = self.background * (torch.ones_like(region) if background is None else background)
        weight = torch.where(region > 0, region, outside).to(student.dtype)
        return mean_square_inside(generated, teacher, weight)

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

"""Channel-wise distillation (Shu et al., ICCV 2021): each channel's map is a distribution over positions."""

from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.ops.channel_wise_kl import channel_wise_kl


@LOSSES.register_module()
class ChannelWiseDivergence(DistillLoss):
    """KL divergence from the teacher's to the student's softmax over H*W, per channel (the paper's CWD).

    ``tau^2 / (N * C) * sum_nc KL(softmax(teacher / tau) || softmax(student / tau))``

    Args:
        tau: temperature of both softmaxes.
        legacy: return the cross-entropy that FocalDistiller published. It differs by the teacher's entropy, a
            constant of up to ``tau^2 log(H*W)`` that hides the loss in the log; gradients are the same.
    """

    def __init__(self, tau: float = 2.0, legacy: bool = False) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f'tau must be positive, got {tau}')
        self.tau = tau
        self.legacy = legacy

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Divergence averaged over samples and channels.

        Args:
            student: (N, C, H, W).
            teacher: (N, C, H, W), constant.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        if student.numel() == 0:
            return student.sum() * 0
        return channel_wise_kl(student, teacher, self.tau, cross_entropy=self.legacy)

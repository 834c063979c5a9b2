"""Channel-wise distillation (Shu et al., ICCV 2021): each channel's map is a distribution over positions."""

from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.registry import LOSSES

_CACHED = 1 << 18
"""Elements worked on at a time on CPU: three such float32 buffers stay in the second-level cache."""


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

    def forward(self, student: Tensor, teacher: Tensor, region: Tensor | None = None) -> Tensor:
        """Divergence averaged over samples and channels.

        Args:
            student: (N, C, H, W).
            teacher: (N, C, H, W), constant.
            region: not used.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        return channel_wise_divergence(student, teacher, self.tau, cross_entropy=self.legacy)


def channel_wise_divergence(
    student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool = False
) -> Tensor:
    """``tau^2 / rows * sum_rows KL(softmax(teacher / tau) || softmax(student / tau))`` over the last two axes.

    Args:
        student: (N, C, H, W).
        teacher: (N, C, H, W), no gradient flows to it.
        tau: temperature.
        cross_entropy: leave the teacher's entropy in the value.

    Returns:
        Scalar; 0 with a live graph when there are no positions.
    """
    if student.numel() == 0:
        return student.sum() * 0
    return _ChannelWiseDivergence.apply(student, teacher.detach(), tau, cross_entropy)


class _ChannelWiseDivergence(torch.autograd.Function):
    """Forward also makes the gradient, block by block while the exponentials are in cache."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool) -> Tensor:
        n, c, h, w = student.shape
        s, t = student.reshape(n * c, h * w), teacher.reshape(n * c, h * w)
        slope = torch.empty_like(s) if ctx.needs_input_grad[0] else None
        block = max(1, _CACHED // (h * w)) if s.device.type == 'cpu' else n * c
        total = s.new_zeros((), dtype=torch.float64)
        for i in range(0, n * c, block):
            out = None if slope is None else slope[i : i + block]
            total += _divergence_of_rows(s[i : i + block], t[i : i + block], tau, cross_entropy, out)
        ctx.scale, ctx.shape = tau / (n * c), student.shape
        ctx.save_for_backward(slope)
        return (total * (tau * tau / (n * c))).to(student.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * (grad * ctx.scale)).view(ctx.shape), None, None, None


def _divergence_of_rows(
    s: Tensor, t: Tensor, tau: float, cross_entropy: bool, slope: Tensor | None
) -> Tensor:
    """Summed divergence of some rows; their gradient ``softmax(s) - softmax(t)`` goes to ``slope``.

    Args:
        s: (R, P), student.
        t: (R, P), teacher.
        tau: temperature.
        cross_entropy: leave the teacher's entropy in.
        slope: (R, P) to write the gradient to, or None.

    Returns:
        Scalar in float64.
    """
    log_s = torch.log_softmax(s / tau, dim=1)
    log_t = torch.log_softmax(t / tau, dim=1)
    p_t = log_t.exp()
    rows = -(p_t * log_s).sum(1) if cross_entropy else (p_t * (log_t - log_s)).sum(1)
    if slope is not None:
        torch.sub(log_s.exp_(), p_t, out=slope)
    return rows.sum(dtype=torch.float64)

"""Channel-wise distillation (Shu et al., ICCV 2021): each channel's map is a distribution over positions."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.registry import LOSSES

_CACHED = 1 << 17
"""Elements worked on at a time on CPU, so that what one operation writes is still in cache for the next."""


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
    """Works on a few rows at a time in small buffers; nothing of the features' size is made but the gradient.

    Rows are channels of samples, P = H * W. Forward keeps the logarithms of the softmaxes' denominators, from which
    backward has the gradient ``softmax(student / tau) - softmax(teacher / tau)`` in one pass.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool) -> Tensor:
        """Divergence of features (N, C, H, W); a scalar."""
        s, t = student.flatten(2).flatten(0, 1), teacher.flatten(2).flatten(0, 1)
        # In float64, since a small divergence is the difference of two large logarithms.
        log_s, log_t = (torch.empty(len(s), 1, dtype=torch.float64, device=s.device) for _ in range(2))
        total = s.new_zeros((), dtype=torch.float64)
        for rows, buffer, spare in _blocks(s):
            weight = _softmax_terms(t[rows], tau, buffer, log_t[rows])
            values = (
                torch.neg(s[rows], out=spare) if cross_entropy else torch.sub(t[rows], s[rows], out=spare)
            )
            mean = values.mul_(weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
            _softmax_terms(s[rows], tau, buffer, log_s[rows])
            divergence = mean / tau + log_s[rows]
            total += (divergence if cross_entropy else divergence - log_t[rows]).sum(dtype=torch.float64)
        ctx.tau, ctx.scale = tau, tau / len(s)
        ctx.save_for_backward(student, teacher, log_s, log_t)
        return (total * (tau * tau / len(s))).to(student.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient for the student, (N, C, H, W)."""
        student, teacher, log_s, log_t = ctx.saved_tensors
        s, t = student.flatten(2).flatten(0, 1), teacher.flatten(2).flatten(0, 1)
        log_s, log_t = log_s.to(s.dtype), log_t.to(s.dtype)
        slope = torch.empty_like(s)
        for rows, buffer, _ in _blocks(s):
            out = torch.add(-log_s[rows], s[rows], alpha=1 / ctx.tau, out=slope[rows]).exp_()
            out.sub_(torch.add(-log_t[rows], t[rows], alpha=1 / ctx.tau, out=buffer).exp_())
            out.mul_(grad * ctx.scale)
        return slope.view(student.shape), None, None, None


def _softmax_terms(x: Tensor, tau: float, out: Tensor, log_sum: Tensor) -> Tensor:
    """Write ``exp((x - max) / tau)`` to ``out`` and ``log sum exp(x / tau)`` to ``log_sum``.

    Args:
        x: (R, P).
        tau: temperature.
        out: (R, P), written and returned.
        log_sum: (R, 1) float64, written.
    """
    shift = x.amax(1, keepdim=True) / tau
    torch.add(-shift, x, alpha=1 / tau, out=out).exp_()
    torch.add(out.sum(1, keepdim=True).double().log_(), shift, out=log_sum)
    return out


def _blocks(x: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cut (rows, P) into blocks that fit the cache; each comes with two buffers of its shape, used again and again."""
    count, positions = x.shape
    size = max(1, _CACHED // positions) if x.device.type == 'cpu' else count
    buffers = x.new_empty(2, min(size, count), positions)
    for i in range(0, count, size):
        rows = slice(i, min(i + size, count))
        yield rows, *buffers[:, : rows.stop - i]

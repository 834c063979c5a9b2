"""Channel-wise KL divergence of two feature maps (Shu et al., ICCV 2021): the function that callers use."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library


def channel_wise_kl(student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool = False) -> Tensor:
    """``tau^2 / rows * sum_rows KL(softmax(teacher / tau) || softmax(student / tau))`` over H * W of every channel.

    The compiled operator reads both features twice forward (the second time from cache) and once backward, and
    keeps two numbers per channel. Dtypes other than float32 and float64 are computed in float32.

    Args:
        student: (N, C, H, W).
        teacher: (N, C, H, W), constant: no gradient flows to it.
        tau: temperature, positive.
        cross_entropy: leave the teacher's entropy in the value; gradients are the same.

    Returns:
        Scalar in the dtype of ``student``.

    Example:
        >>> feature = torch.rand(2, 8, 5, 5)
        >>> channel_wise_kl(feature, feature, tau=1.0).item()
        0.0
    """
    if student.dim() != 4 or teacher.shape != student.shape:
        raise ValueError(
            f'student and teacher must be of one shape (N, C, H, W), got {tuple(student.shape)} and {tuple(teacher.shape)}.'
        )
    if tau <= 0:
        raise ValueError(f'tau must be positive, got {tau}.')
    if not library.serves(student, 'channel_wise_kl'):
        return channel_wise_kl_torch(student, teacher, tau, cross_entropy)
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    op = torch.ops.focaldistiller.channel_wise_kl
    loss, _, _ = op(student.to(dtype), teacher.detach().to(dtype), tau, cross_entropy)
    return loss.to(student.dtype)


def _fake(student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool) -> tuple[Tensor, ...]:
    logs = student.new_empty(student.shape[0] * student.shape[1], dtype=torch.float64)
    return student.new_empty(()), logs, torch.empty_like(logs)


def _fake_backward(grad: Tensor, student: Tensor, *rest: object) -> Tensor:
    return student.new_empty(student.shape)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    student, teacher, ctx.tau, _ = inputs
    _, log_student, log_teacher = output
    ctx.save_for_backward(student, teacher, log_student, log_teacher)
    ctx.mark_non_differentiable(log_student, log_teacher)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, *unused: Tensor) -> tuple:
    return (
        torch.ops.focaldistiller.channel_wise_kl_backward(grad, *ctx.saved_tensors, ctx.tau),
        None,
        None,
        None,
    )


def channel_wise_kl_torch(
    student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool = False
) -> Tensor:
    """See :func:`channel_wise_kl`; in plain torch.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 20.0]]]])
        >>> round(channel_wise_kl_torch(student, teacher, tau=1.0).item(), 4)  # ln 2
        0.6931
    """
    log_s = (student.flatten(2) / tau).log_softmax(-1)
    log_t = (teacher.detach().flatten(2) / tau).log_softmax(-1)
    value = -log_s if cross_entropy else log_t - log_s
    rows = max(student.shape[0] * student.shape[1], 1)
    return (log_t.exp() * value).sum() * (tau * tau / rows)


library.register('channel_wise_kl', _fake, _fake_backward, _save, _backward)

"""Weighted squared distance of two feature maps: the function that callers use."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library


def masked_l2(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """``sum(weight * (student - teacher)^2)``.

    The compiled operator reads both features once forward and once backward and keeps nothing. Dtypes other than
    float32 and float64 are computed in float32.

    Args:
        student: (N, C, H, W).
        teacher: (N, C, H, W), constant: no gradient flows to it.
        weight: (N, 1, H, W), constant.

    Returns:
        Scalar in the dtype of ``student``.

    Example:
        >>> student, teacher = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 2.0)
        >>> masked_l2(student, teacher, weight=torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
        tensor(12.)
    """
    n, _, h, w = student.shape
    if teacher.shape != student.shape:
        raise ValueError(f'teacher is {tuple(teacher.shape)} but student is {tuple(student.shape)}.')
    if weight.shape != (n, 1, h, w):
        raise ValueError(f'weight must be {(n, 1, h, w)}, got {tuple(weight.shape)}.')
    if not library.serves(student, 'masked_l2'):
        return masked_l2_torch(student, teacher, weight)
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    inputs = (student.to(dtype), teacher.detach().to(dtype), weight.detach().to(dtype))
    return torch.ops.focaldistiller.masked_l2(*inputs).to(student.dtype)


def _fake(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return student.new_empty(())


def _fake_backward(grad: Tensor, student: Tensor, *rest: object) -> Tensor:
    return student.new_empty(student.shape)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    return torch.ops.focaldistiller.masked_l2_backward(grad, *ctx.saved_tensors), None, None


def masked_l2_torch(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """See :func:`masked_l2`; in plain torch.

    Example:
        >>> masked_l2_torch(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), torch.full((1, 1, 1, 1), 0.5))
        tensor(1.5000)
    """
    return (weight.detach() * (student - teacher.detach()).square()).sum()


library.register('masked_l2', _fake, _fake_backward, _save, _backward)

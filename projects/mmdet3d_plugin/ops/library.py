"""Load the compiled operators and tell torch what it must know about them: shapes and gradients."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.library import register_autograd, register_fake

from projects.mmdet3d_plugin.ops.build import BuildError, build, cached_library, find_compiler

OPERATORS = ('ms_deform_attn', 'channel_wise_kl', 'masked_l2')
_served: frozenset[tuple[str, str]] = frozenset()


def serves(tensor: Tensor, operator: str = 'ms_deform_attn') -> bool:
    """Whether a compiled kernel of this operator exists for the device of a tensor such as (N, C, H, W)."""
    return (operator, tensor.device.type) in _served


@contextlib.contextmanager
def pure_torch() -> Iterator[None]:
    """Within this context the doors take their plain torch path: for comparisons.

    Example:
        >>> with pure_torch():
        ...     serves(torch.empty(0))
        False
    """
    global _served
    before, _served = _served, frozenset()
    try:
        yield
    finally:
        _served = before


def load() -> None:
    """Load the library, compiling it first if it is not in the cache and a compiler is at hand.

    Without a compiler, or when compiling fails, the operators run in plain torch and one warning says so.
    ``FOCALDISTILLER_OPS=torch`` asks for that path.
    """
    global _served
    if os.environ.get('FOCALDISTILLER_OPS') == 'torch':
        return
    try:
        if not cached_library().exists() and find_compiler():
            print('FocalDistiller: compiling its operators, once (about a minute).', file=sys.stderr)
        torch.ops.load_library(build())
    except (BuildError, OSError) as error:
        warnings.warn(
            f'the compiled operators are not available, plain torch serves, many times slower: {error}'
        )
        return
    _register()
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    pairs = product(OPERATORS, ('cpu', 'cuda'))
    served = {(op, dev) for op, dev in pairs if has(f'focaldistiller::{op}', dev.upper())}
    if sys.platform == 'linux':
        served.add(('keep_pages', 'cpu'))
    if torch.backends.mkldnn.is_available():  # without oneDNN a linear layer is torch's
        served.add(('linear', 'cpu'))
    _served = frozenset(served)


def _register() -> None:
    for name, anchored in (
        ('ms_deform_attn', False),
        ('ms_deform_attn_fused', True),
        ('ms_deform_attn_packed', True),
    ):
        register_fake(f'focaldistiller::{name}', _fake_forward)
        register_fake(
            f'focaldistiller::{name}_backward', _fake_anchored_backward if anchored else _fake_backward
        )
        register_autograd(f'focaldistiller::{name}', _backward_of(name, anchored), setup_context=_save_inputs)
    register_fake('focaldistiller::channel_wise_kl', _fake_divergence)
    register_fake('focaldistiller::channel_wise_kl_backward', _fake_slope)
    register_autograd('focaldistiller::channel_wise_kl', _divergence_backward, setup_context=_save_divergence)
    register_fake('focaldistiller::masked_l2', _fake_square)
    register_fake('focaldistiller::masked_l2_backward', _fake_slope)
    register_autograd('focaldistiller::masked_l2', _square_backward, setup_context=_save_square)


def _fake_forward(value: Tensor, shapes: list[int], points: Tensor, weights: Tensor, *rest: Tensor) -> Tensor:
    return value.new_empty(points.shape[0], points.shape[1], value.shape[2] * value.shape[3])


def _fake_backward(
    grad: Tensor, value: Tensor, shapes: list[int], points: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), points.new_empty(points.shape), weights.new_empty(weights.shape)


def _fake_anchored_backward(
    grad: Tensor,
    value: Tensor,
    shapes: list[int],
    points: Tensor,
    weights: Tensor,
    anchors: Tensor,
    *rest: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with_reference = rest[-1]
    grad_anchors = anchors.new_empty(anchors.shape if with_reference else (0,))
    return *_fake_backward(grad, value, shapes, points, weights), grad_anchors


def _save_inputs(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    value, ctx.shapes, *sampling = inputs
    ctx.save_for_backward(value, *sampling)


def _backward_of(name: str, anchored: bool) -> object:
    """The autograd formula of one operator, which is an operator itself."""

    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
        op = getattr(torch.ops.focaldistiller, f'{name}_backward')
        value, *sampling = ctx.saved_tensors
        if not anchored:
            grad_value, *grads = op(grad, value, ctx.shapes, *sampling)
            return grad_value, None, *grads
        wanted = ctx.needs_input_grad[4]
        grad_value, grad_points, grad_weights, grad_anchors = op(grad, value, ctx.shapes, *sampling, wanted)
        pairs = [None] * (len(sampling) - 3)
        return grad_value, None, grad_points, grad_weights, grad_anchors if wanted else None, *pairs

    return backward


def _fake_divergence(student: Tensor, teacher: Tensor, tau: float, cross_entropy: bool) -> tuple[Tensor, ...]:
    logs = student.new_empty(student.shape[0] * student.shape[1], dtype=torch.float64)
    return student.new_empty(()), logs, torch.empty_like(logs)


def _fake_square(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return student.new_empty(())


def _fake_slope(grad: Tensor, student: Tensor, *rest: object) -> Tensor:
    return student.new_empty(student.shape)


def _save_divergence(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]
) -> None:
    student, teacher, ctx.tau, _ = inputs
    _, log_student, log_teacher = output
    ctx.save_for_backward(student, teacher, log_student, log_teacher)
    ctx.mark_non_differentiable(log_student, log_teacher)


def _divergence_backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, *unused: Tensor) -> tuple:
    return (
        torch.ops.focaldistiller.channel_wise_kl_backward(grad, *ctx.saved_tensors, ctx.tau),
        None,
        None,
        None,
    )


def _save_square(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _square_backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    return torch.ops.focaldistiller.masked_l2_backward(grad, *ctx.saved_tensors), None, None


load()

"""Load the compiled operators and tell torch what it must know about them: shapes and gradients."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.library import register_autograd, register_fake

from projects.mmdet3d_plugin.ops.build import BuildError, build, cached_library, find_compiler

_devices: frozenset[str] = frozenset()


def serves(tensor: Tensor) -> bool:
    """Is there a compiled kernel for the device this tensor lives on?"""
    return tensor.device.type in _devices


@contextlib.contextmanager
def pure_torch() -> Iterator[None]:
    """Within this context the doors take their plain torch path: for comparisons."""
    global _devices
    before, _devices = _devices, frozenset()
    try:
        yield
    finally:
        _devices = before


def load() -> None:
    """Load the library, compiling it first if it is not in the cache and a compiler is at hand.

    Without a compiler, or when compiling fails, the operators run in plain torch and one warning says so.
    ``FOCALDISTILLER_OPS=torch`` asks for that path.
    """
    global _devices
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
    keys = {'cpu': 'CPU', 'cuda': 'CUDA'}
    _devices = frozenset(name for name, key in keys.items() if has('focaldistiller::ms_deform_attn', key))


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


load()

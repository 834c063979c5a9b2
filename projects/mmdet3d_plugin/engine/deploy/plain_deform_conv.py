"""Deformable convolutions, which ONNX has not at the opset of our graphs, as operators that it has."""

import contextlib
from collections.abc import Iterator
from typing import Any

from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor

from projects.mmdet3d_plugin.common.replaced import replaced
from projects.mmdet3d_plugin.ops.deform_conv_torch import deform_conv2d_torch


@contextlib.contextmanager
def plain_deform_convs() -> Iterator[None]:
    """Within this context mmcv's deformable convolutions (``DCN`` and ``DCNv2``) are computed in plain torch, whichever
    module asks for them; no module is altered.

    Example:
        >>> import torch
        >>> from mmcv.ops import ModulatedDeformConv2dPack
        >>> conv, x = ModulatedDeformConv2dPack(2, 3, 3, padding=1), torch.rand(1, 2, 4, 5)
        >>> with plain_deform_convs():
        ...     torch.allclose(conv(x), 0.5 * torch.conv2d(x, conv.weight, padding=1), atol=1e-6)
        True
    """
    with (
        replaced(deform_conv2d, _deform_conv2d),
        replaced(modulated_deform_conv2d, _modulated_deform_conv2d),
    ):
        yield


def _deform_conv2d(x: Tensor, offset: Tensor, weight: Tensor, *how: Any) -> Tensor:
    """Stands in for mmcv's function: (N, C, H, W) -> (N, out, h, w).

    Args:
        x: (N, C, H, W).
        offset: (N, deform_groups * 2 * kh * kw, h, w).
        weight: (out, C / groups, kh, kw).
        how: stride, padding, dilation, groups and deform_groups, and two settings of mmcv's way to compute.
    """
    return deform_conv2d_torch(x, offset, weight, *how[:5])


def _modulated_deform_conv2d(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, *how: Any
) -> Tensor:
    """Stands in for mmcv's function: (N, C, H, W) -> (N, out, h, w).

    Args:
        x: (N, C, H, W).
        offset: (N, deform_groups * 2 * kh * kw, h, w).
        mask: (N, deform_groups * kh * kw, h, w).
        weight: (out, C / groups, kh, kw).
        bias: (out,).
        how: stride, padding, dilation, groups and deform_groups.
    """
    return deform_conv2d_torch(x, offset, weight, *how, mask=mask, bias=bias)

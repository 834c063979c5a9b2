"""Deformable convolution in plain torch, for graphs; elsewhere mmcv's operators serve."""

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv2d_torch(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    deform_groups: int = 1,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """A convolution whose taps are moved (Deformable Convolutional Networks, section 2.1), as mmcv's ``deform_conv2d``;
    with a mask, ``modulated_deform_conv2d`` (Deformable ConvNets v2, section 3.2). Outside of ``x`` there are zeros.

    Args:
        x: (N, C, H, W).
        offset: (N, deform_groups * 2 * kh * kw, h, w), how far (down, right) every tap of every output is moved, in
            pixels.
        weight: (out, C / groups, kh, kw).
        stride: (down, right), of the output.
        padding: zeros around ``x``.
        dilation: pixels between two taps.
        groups: of channels.
        deform_groups: of channels that are moved, and masked, together.
        mask: (N, deform_groups * kh * kw, h, w), factors of the taps; None leaves them as they are.
        bias: (out,).

    Returns:
        (N, out, h, w).

    Example:
        >>> x, offset = torch.arange(4.0).view(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)
        >>> offset[:, 1] = 1.0  # everything from one pixel to the right
        >>> deform_conv2d_torch(x, offset, torch.ones(1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1).flatten()
        tensor([1., 0., 3., 0.])
    """
    n, c, height, width = x.shape
    out, _, kh, kw = weight.shape
    h, w = offset.shape[-2:]
    row = torch.arange(h, device=x.device) * stride[0] - padding[0]
    column = torch.arange(w, device=x.device) * stride[1] - padding[1]
    down = torch.arange(kh, device=x.device) * dilation[0]
    right = torch.arange(kw, device=x.device) * dilation[1]
    moved = offset.view(n * deform_groups, kh, kw, 2, h, w)
    y = moved[:, :, :, 0] + down[:, None, None, None] + row[:, None]
    place_x = moved[:, :, :, 1] + right[:, None, None] + column
    grid = torch.stack([(2 * place_x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    grid = grid.view(n * deform_groups, kh * kw * h, w, 2)
    moving = x.reshape(n * deform_groups, c // deform_groups, height, width)
    taps = F.grid_sample(moving, grid, align_corners=False)
    if mask is not None:
        taps = taps * mask.reshape(n * deform_groups, 1, kh * kw * h, w)
    # a tap of a channel is a channel of its own
    taps = taps.view(n, c * kh * kw, h, w)
    return F.conv2d(taps, weight.view(out, -1, 1, 1), bias, groups=groups)

"""Deformable convolution in plain torch beside mmcv's, in float64."""

import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor

from projects.mmdet3d_plugin.ops.deform_conv_torch import deform_conv2d_torch

SETTINGS = [  # stride, padding, dilation, groups, deform_groups
    ((1, 1), (1, 1), (1, 1), 2, 1),
    ((2, 1), (0, 2), (1, 2), 1, 1),
    ((2, 2), (2, 2), (2, 2), 1, 2),
    ((1, 2), (1, 0), (1, 1), 2, 4),
]


def case(batch: int, settings: tuple) -> tuple[Tensor, ...]:
    """Input, offsets of which many lead outside, weight, mask and bias."""
    torch.manual_seed(0)
    stride, padding, dilation, groups, deform_groups = settings
    size = [(side + 2 * padding[i] - 2 * dilation[i] - 1) // stride[i] + 1 for i, side in enumerate((5, 6))]
    x, weight = torch.randn(batch, 4, 5, 6).double(), torch.randn(6, 4 // groups, 3, 3).double()
    offset = torch.randn(batch, 18 * deform_groups, *size).double() * 2
    return x, offset, weight, torch.rand(batch, 9 * deform_groups, *size).double(), torch.randn(6).double()


@pytest.mark.parametrize('settings', SETTINGS)
def test_values_equal_mmcv_and_a_batch_of_two_is_two_of_one(settings: tuple) -> None:
    x, offset, weight, *_ = case(2, settings)
    ours = deform_conv2d_torch(x, offset, weight, *settings)
    torch.testing.assert_close(ours, deform_conv2d(x, offset, weight, *settings), atol=1e-9, rtol=0)
    single = [deform_conv2d_torch(x[i : i + 1], offset[i : i + 1], weight, *settings) for i in range(2)]
    torch.testing.assert_close(ours, torch.cat(single))


@pytest.mark.parametrize('settings', SETTINGS)
@pytest.mark.parametrize(('dtype', 'within'), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_with_a_mask_values_equal_mmcv(settings: tuple, dtype: torch.dtype, within: float) -> None:
    x, offset, weight, mask, bias = (part.to(dtype) for part in case(2, settings))
    for added in (bias, None):
        ours = deform_conv2d_torch(x, offset, weight, *settings, mask=mask, bias=added)
        theirs = modulated_deform_conv2d(x, offset, mask, weight, added, *settings)
        torch.testing.assert_close(ours, theirs, atol=within, rtol=0)


def test_at_the_border_a_tap_fades_as_mmcv_lets_it() -> None:
    """Places on, within a pixel of, a pixel from and far beyond every side of an image of ones."""
    places = torch.tensor([-1e4, -3.0, -1.0, -0.75, -0.5, 0.0, 3.0, 3.25, 3.5, 4.0, 5.0, 1e4]).double()
    fade = torch.tensor([0, 0, 0, 0.25, 0.5, 1, 1, 0.75, 0.5, 0, 0, 0]).double()
    moved = places - torch.arange(-4, 8)  # from the places of a 1 x 1 kernel over the padded image
    offset = torch.stack(torch.meshgrid(moved, moved, indexing='ij'))[None]
    x, one, mask = (torch.ones(1, 1, size, size).double() for size in (4, 1, 12))
    how = ((1, 1), (4, 4), (1, 1), 1, 1)
    ours = deform_conv2d_torch(x, offset, one, *how, mask=mask)
    torch.testing.assert_close(ours[0, 0], fade[:, None] * fade, atol=1e-9, rtol=0)
    theirs = modulated_deform_conv2d(x, offset, mask, one, None, *how)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_gradients_and_empty_input() -> None:
    x, offset, weight, mask, bias = case(1, SETTINGS[0])
    leaves = [t[..., :4, :4].contiguous().requires_grad_() for t in (x, offset, mask)]
    leaves += [weight.requires_grad_(), bias.requires_grad_()]

    def run(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return deform_conv2d_torch(x, offset, weight, *SETTINGS[0], mask=mask, bias=bias)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    x, offset, mask, *rest = leaves
    assert run(x[:0], offset[:0], mask[:0], *rest).shape == (0, 6, 4, 4)

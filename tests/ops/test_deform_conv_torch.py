"""Deformable convolution in plain torch beside mmcv's, in float64."""

import pytest
import torch
from mmcv.ops import deform_conv2d

from projects.mmdet3d_plugin.ops.deform_conv_torch import deform_conv2d_torch

SETTINGS = [((1, 1), (1, 1), (1, 1), 2), ((2, 1), (0, 2), (1, 2), 1)]


def case(batch: int, settings: tuple) -> tuple:
    """Input, offsets that reach outside, and weight."""
    torch.manual_seed(0)
    stride, padding, dilation, groups = settings
    size = [(side + 2 * padding[i] - 2 * dilation[i] - 1) // stride[i] + 1 for i, side in enumerate((5, 6))]
    x, weight = torch.randn(batch, 4, 5, 6).double(), torch.randn(6, 4 // groups, 3, 3).double()
    return x, torch.randn(batch, 18, *size).double() * 2, weight


@pytest.mark.parametrize('settings', SETTINGS)
def test_values_equal_mmcv_and_a_batch_of_two_is_two_of_one(settings: tuple) -> None:
    x, offset, weight = case(2, settings)
    ours = deform_conv2d_torch(x, offset, weight, *settings)
    torch.testing.assert_close(ours, deform_conv2d(x, offset, weight, *settings))
    single = [deform_conv2d_torch(x[i : i + 1], offset[i : i + 1], weight, *settings) for i in range(2)]
    torch.testing.assert_close(ours, torch.cat(single))


def test_gradients_and_empty_input() -> None:
    x, offset, weight = (t[..., :4, :4].contiguous() for t in case(1, SETTINGS[0]))
    weight = case(1, SETTINGS[0])[2]
    leaves = [t.requires_grad_() for t in (x, offset, weight)]
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d_torch(*t, *SETTINGS[0]), leaves, fast_mode=True)
    assert deform_conv2d_torch(x[:0], offset[:0], weight, *SETTINGS[0]).shape == (0, 6, 4, 4)

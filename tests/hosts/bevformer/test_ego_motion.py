"""Ego motion: a static world must stand still in the aligned BEV feature."""

import math

import pytest
import torch
from torchvision.transforms.functional import InterpolationMode, rotate

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import bev_shift, rotate_bev


@pytest.mark.parametrize('center', [None, (3.0, 8.0)])
@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_rotation_equals_torchvision_sample_by_sample(center: tuple | None, mode: str) -> None:
    bev = torch.randn(3, 4, 12, 10)
    angle = torch.tensor([0.0, 13.0, -71.5])
    ours = rotate_bev(bev, angle, center, mode)
    for i in range(3):
        theirs = rotate(
            bev[i], angle[i].item(), InterpolationMode(mode), center=None if center is None else list(center)
        )
        # A point on the border of two cells may fall to either in nearest mode.
        differ = (ours[i] - theirs).abs().amax(0) > 1e-4
        assert differ.float().mean() < 0.02


def test_rotation_keeps_a_static_object_in_place() -> None:
    """The ego turns left by 90 degrees: what was ahead (+y) is now on the right (+x)."""
    bev = torch.zeros(1, 1, 21, 21)
    bev[0, 0, 18, 10] = 1
    turned = rotate_bev(bev, torch.tensor([90.0]))
    assert turned[0, 0].argmax().item() == 10 * 21 + 18


@pytest.mark.parametrize('yaw', [0.0, 0.7, -2.5])
def test_shift_is_the_motion_in_the_lidar_frame(yaw: float) -> None:
    """Driving 2 m forward and 1 m to the right, whatever the heading: x is right, y is forward."""
    forward = torch.tensor([math.cos(yaw), math.sin(yaw)])
    right = torch.tensor([math.sin(yaw), -math.cos(yaw)])
    can_bus = torch.zeros(1, 18, dtype=torch.float64)
    can_bus[0, :2] = 2 * forward + right
    can_bus[0, -2] = yaw
    torch.testing.assert_close(bev_shift(can_bus, (100.0, 50.0)), torch.tensor([[0.01, 0.04]]))


def test_standing_still_gives_no_shift() -> None:
    assert torch.equal(bev_shift(torch.zeros(2, 18), (100.0, 100.0)), torch.zeros(2, 2))

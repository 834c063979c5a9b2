"""The pretended device refuses what CUDA refuses, and computes what the CPU computes."""

import pytest
import torch
from mmcv.ops import nms
from torch import nn

from tests.pretend_device import DEVICE, TwoDevicesError, pretended_device


def test_tensors_of_two_devices_do_not_meet() -> None:
    with pretended_device() as device:
        x = torch.arange(4.0).to(device)
        assert (
            x.device
            == torch.ones(2, device=device).device
            == torch.tensor([1.0], device=device).device
            == DEVICE
        )
        with pytest.raises(TwoDevicesError, match=r'aten::add .* those on the CPU are \[\(4,\)\]'):
            x + torch.zeros(4)
        with pytest.raises(TwoDevicesError):
            torch.zeros(4)[x.long()]
        with pytest.raises(TwoDevicesError):
            nms(torch.rand(4, 4).to(device), torch.rand(4), 0.5)
        with pytest.raises((TypeError, RuntimeError)):
            x.numpy()
        # as on CUDA: numbers without axes, and indices, may be the CPU's
        assert (x * torch.tensor(2.0))[torch.tensor([3])].cpu().tolist() == [6.0]
    with pytest.raises(TwoDevicesError):
        x + torch.zeros(4)


def test_values_and_gradients_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()), torch.randn(2, 3, 6, 6)
    net(x).square().sum().backward()
    wanted = [p.grad for p in net.parameters()]
    net.zero_grad()
    with pretended_device() as device:
        net.to(device)
        net(x.to(device)).square().sum().backward()
        found = [p.grad.cpu() for p in net.parameters()]
    assert all(map(torch.equal, found, wanted))

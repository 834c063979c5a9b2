import torch
from torch import nn

from projects.mmdet3d_plugin.hosts.batch_norm import batch_norm
from projects.mmdet3d_plugin.hosts.bevdepth.bevdet import CameraAttention
from projects.mmdet3d_plugin.hosts.bevdepth.depth_net import DepthNet


def test_two_values_have_statistics_of_their_own_and_one_borrows() -> None:
    torch.manual_seed(0)
    for norm, shape in ((nn.BatchNorm1d(3), (2, 3)), (nn.BatchNorm2d(3), (1, 3, 1, 2))):
        x = torch.randn(shape)
        torch.testing.assert_close(batch_norm(norm, x).mean(), torch.zeros(()), rtol=0, atol=1e-6)
        one = x[:1, :, :1, :1] if x.dim() == 4 else x[:1]
        assert torch.equal(batch_norm(norm, one), norm.eval()(one))


def test_a_single_camera_trains_the_networks_of_depth() -> None:
    camera = torch.randn(1, 27)
    for found in DepthNet(8, 8, 4, 5)(torch.randn(1, 8, 4, 4), camera):
        assert torch.isfinite(found).all()
    assert CameraAttention(8, 4)(torch.randn(1, 8, 4, 4), torch.randn(1, 33)).shape == (1, 4, 4, 4)

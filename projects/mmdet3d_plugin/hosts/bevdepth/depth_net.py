"""BEVDepth's depth network with camera-aware attention, and its aggregation of depth slices."""

import torch
from mmcv.cnn import build_conv_layer
from mmdet.models.backbones.resnet import BasicBlock
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.batch_norm import batch_norm

CAMERA_NUMBERS = 27
_DILATIONS = (1, 6, 12, 18)


class DepthNet(nn.Module):
    """Image features and the camera's matrices -> logits over depth bins, and context features.

    Two squeeze-and-excitation gates, one per branch, are driven by an MLP on 27 numbers of the camera ("camera-aware
    depth prediction"). The depth branch has three residual blocks, ASPP and a deformable convolution.

    Args:
        in_channels: of the image features.
        mid_channels: of both branches.
        context_channels: C.
        depth_bins: D.
    """

    def __init__(self, in_channels: int, mid_channels: int, context_channels: int, depth_bins: int) -> None:
        super().__init__()
        mid = mid_channels
        self.reduce_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid, 3, padding=1), nn.BatchNorm2d(mid), nn.ReLU(inplace=True)
        )
        self.context_conv = nn.Conv2d(mid, context_channels, 1)
        self.bn = nn.BatchNorm1d(CAMERA_NUMBERS)
        self.depth_mlp, self.depth_se = CameraMLP(mid), CameraGate(mid)
        self.context_mlp, self.context_se = CameraMLP(mid), CameraGate(mid)
        deformable = dict(type='DCN', groups=4, im2col_step=128)
        self.depth_conv = nn.Sequential(
            *(BasicBlock(mid, mid) for _ in range(3)),
            ASPP(mid),
            build_conv_layer(deformable, mid, mid, kernel_size=3, padding=1),
            nn.Conv2d(mid, depth_bins, 1),
        )

    def forward(self, features: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Depth logits and context.

        Args:
            features: (B * N, in_channels, h, w).
            camera: (B * N, 27), see :meth:`CameraMatrices.numbers`.

        Returns:
            (B * N, D, h, w) and (B * N, C, h, w).
        """
        camera = batch_norm(self.bn, camera)
        features = self.reduce_conv(features)
        context = self.context_conv(self.context_se(features, self.context_mlp(camera)))
        return self.depth_conv(self.depth_se(features, self.depth_mlp(camera))), context


class CameraMLP(nn.Module):
    """The 27 numbers of a camera -> ``channels`` features.

    Args:
        channels: hidden and output width.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.act = nn.Linear(CAMERA_NUMBERS, channels), nn.ReLU()
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, camera: Tensor) -> Tensor:
        """(N, 27) -> (N, channels)."""
        return self.fc2(self.act(self.fc1(camera)))


class CameraGate(nn.Module):
    """Squeeze-and-excitation whose gates come from the camera instead of the features.

    Args:
        channels: of features and camera alike.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce, self.act = nn.Conv2d(channels, channels, 1), nn.ReLU()
        self.conv_expand = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor, camera: Tensor) -> Tensor:
        """(N, channels, h, w) and (N, channels) -> (N, channels, h, w)."""
        gate = self.conv_expand(self.act(self.conv_reduce(camera[..., None, None])))
        return features * gate.sigmoid()


class _Atrous(nn.Module):
    """Convolution of one dilation, BN, ReLU."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        padding = dilation if kernel > 1 else 0
        self.atrous_conv = nn.Conv2d(
            channels, channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.bn, self.relu = nn.BatchNorm2d(channels), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.atrous_conv(x)))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: dilations 1, 6, 12, 18 and the mean of the image, joined by a 1x1 convolution.

    Args:
        channels: in, between and out.
        dropout: after it.
    """

    def __init__(self, channels: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = (
            _Atrous(channels, 1 if dilation == 1 else 3, dilation) for dilation in _DILATIONS
        )
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(5 * channels, channels, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels), nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        branches = [branch(x) for branch in (self.aspp1, self.aspp2, self.aspp3, self.aspp4)]
        pool, conv, norm, act = self.global_avg_pool
        whole = act(batch_norm(norm, conv(pool(x)))).expand_as(branches[0])
        return self.dropout(self.relu(self.bn1(self.conv1(torch.cat([*branches, whole], 1)))))


class DepthAggregation(nn.Module):
    """Convolutions over the (width, depth) slices of the lifted features, row by row ("depth refinement").

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

        def layer() -> list[nn.Module]:
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]

        self.reduce_conv = nn.Sequential(*layer())
        self.conv = nn.Sequential(*layer(), *layer())
        self.out_conv = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, lifted: Tensor) -> Tensor:
        """(N, C, D, h, w) -> (N, C, D, h, w), in float32 at least."""
        n, c, d, h, w = lifted.shape
        with torch.autocast(lifted.device.type, enabled=False):
            x = lifted if lifted.dtype == torch.float64 else lifted.float()
            x = self.reduce_conv(x.permute(0, 3, 1, 4, 2).reshape(n * h, c, w, d))
            x = self.out_conv(self.conv(x) + x)
        return x.view(n, h, c, w, d).permute(0, 2, 4, 1, 3)

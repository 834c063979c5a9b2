"""The BEVDet family's BEVDepth and BEVDepth4D (Huang et al., branch master of BEVDet, 2022): other layers, the same way."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_conv_layer
from mmdet.models import DETECTORS
from mmdet.models.backbones.resnet import BasicBlock
from mmdet3d.models.builder import build_backbone, build_head
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.batch_norm import batch_norm
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted, LiftSplat, require_grid, take_frustum
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat_detector import LiftSplatDetector

CAMERA_NUMBERS = 33


class BasicStages(nn.Module):
    """Stages of residual blocks, each beginning with a 3x3 convolution on the shortcut too.

    Args:
        in_channels: of the input.
        channels: of the stages.
        blocks: in each stage.
        strides: of the stages.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], blocks: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        stages, self.channels = [], list(channels)
        for width, count, stride in zip(channels, blocks, strides, strict=True):
            shortcut = nn.Conv2d(in_channels, width, 3, stride, 1)
            first = BasicBlock(in_channels, width, stride=stride, downsample=shortcut)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width) for _ in range(count - 1))))
            in_channels = width
        self.layers = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> one map per stage."""
        maps = []
        for stage in self.layers:
            x = stage(x)
            maps.append(x)
        return maps


class FinestLevelFPN(nn.Module):
    """An FPN of which only the finest level is used, and made.

    Args:
        in_channels: of the levels, finest first.
        out_channels: of the result.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvModule(width, out_channels, 1) for width in in_channels)
        self.fpn_convs = nn.ModuleList([ConvModule(out_channels, out_channels, 3, padding=1)])
        for conv in (*self.lateral_convs, *self.fpn_convs):
            conv.act_cfg, conv.with_activation = None, False
        self.out_channels = out_channels

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> (N, out_channels, h, w) of the finest."""
        laterals = [conv(level) for conv, level in zip(self.lateral_convs, levels, strict=True)]
        merged = laterals[-1]
        for finer in reversed(laterals[:-1]):
            merged = finer + F.interpolate(merged, size=finer.shape[-2:], mode='nearest')
        return self.fpn_convs[0](merged)


class BEVNeck(nn.Module):
    """The first and the last stage of the BEV encoder, joined at the size of the first and doubled.

    Args:
        in_channels: of both stages together.
        out_channels: of the result.
        factor: by which the first stage is larger than the last.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 4) -> None:
        super().__init__()
        wide, self.out_channels = 2 * out_channels, [out_channels]
        self.up = nn.Upsample(scale_factor=factor, mode='bilinear', align_corners=True)
        self.conv = nn.Sequential(*_conv_bn_relu(in_channels, wide), *_conv_bn_relu(wide, wide))
        self.up2 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True),
            *_conv_bn_relu(wide, out_channels),
            nn.Conv2d(out_channels, out_channels, 1),
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps of all stages -> (B, out_channels, H, W), twice the size of the first."""
        return self.up2(self.conv(torch.cat([stages[0], self.up(stages[-1])], 1)))


def _conv_bn_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class CameraAttention(nn.Module):
    """Squeeze-and-excitation by 33 numbers of the camera, see :func:`camera_numbers`.

    Args:
        in_channels: of the features.
        channels: of the result.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.input_conv = nn.Conv2d(in_channels, channels, 1)
        self.fc = nn.Sequential(
            nn.BatchNorm1d(CAMERA_NUMBERS), nn.Linear(CAMERA_NUMBERS, channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor, camera: Tensor) -> Tensor:
        """(N, in_channels, h, w) and (N, 33) -> (N, channels, h, w)."""
        norm, *layers = self.fc
        gate = nn.Sequential(*layers)(batch_norm(norm, camera))
        return self.input_conv(features) * gate[..., None, None]


class ViewTransformer(nn.Module):
    """Image features and the camera's numbers -> logits over depth bins, and context; and the pooling on the BEV.

    Buffers are named as in the original: ``dx`` (cell), ``bx`` (centre of the first), ``nx`` (count), ``frustum``.

    Args:
        lift_splat: arguments of :class:`LiftSplat`.
        in_channels: of the image features.
        context_channels: C.
        depth_channels: of the branch that finds depth.
    """

    def __init__(
        self,
        lift_splat: Mapping[str, Any],
        in_channels: int = 512,
        context_channels: int = 64,
        depth_channels: int = 256,
    ) -> None:
        super().__init__()
        self.lift_splat, width = LiftSplat(**lift_splat), depth_channels
        for name, value in _grid_buffers(self.lift_splat).items():
            self.register_buffer(name, value)
        self.featnet = nn.Conv2d(in_channels, context_channels, 1)
        self.se = CameraAttention(in_channels, width)
        self.extra_depthnet = BasicStages(width, [width], [3], [1])
        deformable = build_conv_layer(dict(type='DCNv2', bias=True), width, width, kernel_size=3, padding=1)
        self.dcn = nn.Sequential(deformable, nn.BatchNorm2d(width))
        self.depthnet = nn.Conv2d(width, len(self.lift_splat.bins), 1)
        self.context_channels = context_channels

    def forward(self, features: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Depth logits and context.

        Args:
            features: (B * N, in_channels, h, w).
            camera: (B * N, 33).

        Returns:
            (B * N, D, h, w) and (B * N, C, h, w).
        """
        deep = self.extra_depthnet(self.se(features, camera))[0]
        return self.depthnet(self.dcn(deep)), self.featnet(features)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take weights of another image size, whose frustum is made anew, but of no other grid."""
        take_frustum(self, state_dict, prefix)
        require_grid(self, state_dict, prefix, ('dx', 'bx', 'nx'), 'model.img_view_transformer.lift_splat')
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@DETECTORS.register_module()
class BEVDet(LiftSplatDetector):
    """BEVDepth as the BEVDet family builds it; weights are named as there. With two key frames it is BEVDepth4D.

    Earlier frames are pooled straight into the present BEV frame, each followed by ``pre_process_net``; the original pools
    them in their own frame and resamples that map. Depth is supervised by BCE on the softmax that lifts, as in BEVDepth.

    Args:
        img_view_transformer: arguments of :class:`ViewTransformer`.
        img_backbone: config of an image backbone.
        img_neck: arguments of :class:`FinestLevelFPN`.
        pts_bbox_head: config of a ``CenterPointHead``.
        bev_channels: of the three stages of the BEV encoder.
        train_cfg: of the head.
        test_cfg: of the head.
        **detector: arguments of :class:`LiftSplatDetector`.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {
        'img_view_transformer': ViewTransformer,
        'img_neck': FinestLevelFPN,
    }

    def __init__(
        self,
        img_view_transformer: dict[str, Any],
        img_backbone: dict[str, Any],
        img_neck: dict[str, Any],
        pts_bbox_head: dict[str, Any],
        bev_channels: Sequence[int] = (128, 256, 512),
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        **detector: Any,
    ) -> None:
        super().__init__(**detector)
        self.img_backbone, self.img_neck = build_backbone(img_backbone), FinestLevelFPN(**img_neck)
        self.img_view_transformer = ViewTransformer(**img_view_transformer)
        context = self.img_view_transformer.context_channels
        self.img_bev_encoder_backbone = BasicStages(context * self.num_frames, bev_channels, [2] * 3, [2] * 3)
        self.pts_bbox_head = build_head(dict(pts_bbox_head, train_cfg=train_cfg, test_cfg=test_cfg))
        self.img_bev_encoder_neck = BEVNeck(bev_channels[0] + bev_channels[-1], pts_bbox_head['in_channels'])
        self.pre_process_net = BasicStages(context, [context], [2], [1]) if self.num_frames > 1 else None

    @property
    def head(self) -> nn.Module:
        """The centre head."""
        return self.pts_bbox_head

    @property
    def lift_splat(self) -> LiftSplat:
        """The view transformer's."""
        return self.img_view_transformer.lift_splat

    def lift(self, img: Tensor, present: CameraMatrices) -> Lifted:
        """Depth and context of one frame's images (B, N, 3, H, W), seen by cameras as the present frame's stand."""
        features = self.img_neck(self.img_backbone(img.flatten(0, 1)))
        camera = camera_numbers(present).flatten(0, 1).to(features)
        logits, context = self.img_view_transformer(features, camera)
        return Lifted(logits.softmax(1), context)

    def pool(self, lifted: Lifted, matrices: CameraMatrices) -> Tensor:
        """BEV map (B, C, H, W) of a lifted frame, in the BEV frame that its matrices lead to."""
        bev = self.lift_splat(*lifted, matrices)
        return bev if self.pre_process_net is None else self.pre_process_net(bev)[0]

    def read(self, bev: Tensor) -> Any:
        """Maps of all frames (B, num_frames * C, H, W) -> per task a list of one dict; all in float32."""
        with torch.autocast(bev.device.type, enabled=False):
            bev = bev if bev.dtype == torch.float64 else bev.float()
            return self.pts_bbox_head([self.img_bev_encoder_neck(self.img_bev_encoder_backbone(bev))])


def camera_numbers(matrices: CameraMatrices) -> Tensor:
    """(B, N, 33): intrinsics (9), what was done to pixels (9 and 3), and the pose in the augmented frame (9 and 3)."""
    turn, shift = matrices.ida.clone(), matrices.ida[..., :3, 2].clone()
    turn[..., :2, 2], shift[..., 2] = 0, 0
    pose = matrices.bda[:, None] @ matrices.cam2frame
    parts = [matrices.intrinsic, turn, shift[..., None], pose[..., :3, :3], pose[..., :3, 3:]]
    return torch.cat([part.flatten(-2) for part in parts], -1)


def _grid_buffers(lift: LiftSplat) -> dict[str, Tensor]:
    """What the original saves beside its weights, see :class:`ViewTransformer`."""
    low, high = torch.tensor(lift.pc_range, dtype=torch.float64).view(2, 3)
    count = torch.tensor([*lift.size[::-1], 1], dtype=torch.float64)
    cell, bins = (high - low) / count, torch.tensor(lift.bins)
    pixels = lift.pixels(bins.device).float().expand(len(bins), -1, -1, -1)
    frustum = torch.cat([pixels, bins[:, None, None, None].expand_as(pixels[..., :1])], -1)
    return dict(dx=cell.float(), bx=(low + cell / 2).float(), nx=count.float(), frustum=frustum)

"""BEVDepth's way from images to a BEV map."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from mmcv.runner import BaseModule
from mmdet3d.models.builder import build_backbone, build_neck
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.depth_net import DepthAggregation, DepthNet
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted, LiftSplat, require_grid, take_frustum

_GRID = ('voxel_size', 'voxel_coord', 'voxel_num')


class LiftSplatBackbone(BaseModule):
    """Image backbone, neck, depth network and pooling; weights are named as in the original.

    Every stage that a distillation term may read is a module: ``img_neck``, ``depth_net``, ``lift_splat``.

    Args:
        lift_splat: arguments of :class:`LiftSplat`.
        img_backbone: config of an image backbone.
        img_neck: config of a neck with one output.
        depth_net: ``in_channels`` and ``mid_channels`` of :class:`DepthNet`.
        out_channels: C of the BEV map.
        use_da: run :class:`DepthAggregation` over the lifted features; it needs all of them in memory.
        init_cfg: initialisation, see mmcv.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'lift_splat': LiftSplat, 'depth_net': DepthNet}

    def __init__(
        self,
        lift_splat: Mapping[str, Any],
        img_backbone: dict[str, Any],
        img_neck: dict[str, Any],
        depth_net: Mapping[str, int],
        out_channels: int = 80,
        use_da: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.lift_splat = LiftSplat(**lift_splat)
        for name, value in grid_buffers(self.lift_splat).items():
            self.register_buffer(name, value)
        self.img_backbone, self.img_neck = build_backbone(img_backbone), build_neck(img_neck)
        self.depth_net = DepthNet(
            **depth_net, context_channels=out_channels, depth_bins=len(self.lift_splat.bins)
        )
        self.depth_aggregation_net = DepthAggregation(out_channels) if use_da else None
        self.out_channels = out_channels

    def lift(self, img: Tensor, present: CameraMatrices) -> Lifted:
        """Depth and context of one frame.

        Args:
            img: (B, N, 3, H, W).
            present: matrices of the present frame, whichever frame the images are of, as published.
        """
        features = self.img_neck(self.img_backbone(img.flatten(0, 1)))[0]
        camera = present.numbers().flatten(0, 1).to(features)
        logits, context = self.depth_net(features, camera)
        return Lifted(logits.softmax(1), context)

    def pool(self, lifted: Lifted, matrices: CameraMatrices) -> Tensor:
        """BEV map (B, C, H, W) of a lifted frame, in the BEV frame that its matrices lead to."""
        if self.depth_aggregation_net is None:
            return self.lift_splat(*lifted, matrices)
        points = lifted.depth[:, None] * lifted.context[:, :, None]
        return self.lift_splat(None, self.depth_aggregation_net(points), matrices)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take weights of another image size, whose frustum is made anew, but of no other grid."""
        take_frustum(self, state_dict, prefix)
        require_grid(self, state_dict, prefix, _GRID, 'model.backbone.lift_splat')
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def grid_buffers(lift: LiftSplat) -> dict[str, Tensor]:
    """The buffers that the original saves beside its weights: the grid, and image positions of all points.

    Returns:
        ``voxel_size``, ``voxel_coord`` (centre of the first cell) and ``voxel_num``, (3,) each, and ``frustum``
        (D, h, w, 4).
    """
    low, high = torch.tensor(lift.pc_range, dtype=torch.float64).view(2, 3)
    count = torch.tensor([*lift.size[::-1], 1])
    cell = (high - low) / count
    bins = torch.tensor(lift.bins)
    pixels = lift.pixels(bins.device).float().expand(len(bins), -1, -1, -1)
    depth = bins[:, None, None, None].expand_as(pixels[..., :1])
    return dict(
        voxel_size=cell.float(),
        voxel_coord=(low + cell / 2).float(),
        voxel_num=count,
        frustum=torch.cat([pixels, depth, torch.ones_like(depth)], -1),
    )

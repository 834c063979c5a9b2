"""What the distiller knows about BEVDepth as the BEVDet family builds it."""

from functools import partial

from torch import nn

from projects.mmdet3d_plugin.distill.hosts.bevdepth import (
    BEVDepthAdapter,
    read_depth,
    read_expected_depth,
    read_heads,
)
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap


@ADAPTERS.register_module(name='BEVDet')
class BEVDetAdapter(BEVDepthAdapter):
    """The same short names as BEVDepth's, at the modules of the BEVDet family."""

    head = 'pts_bbox_head'
    bev_neck = 'img_bev_encoder_neck'
    shape_only = ('img_backbone', 'img_neck')

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv', 'depth', 'expected_depth', 'lss', 'backbone', 'bev' and 'heads', see :class:`BEVDepthAdapter`."""
        transformer, grid = model.img_view_transformer, self.bev_grid(model)
        lift = transformer.lift_splat
        small = tuple(side // lift.stride for side in lift.image_size)
        stages = [
            Tap(
                f'img_bev_encoder_backbone.layers.{i}',
                channels=channels,
                size=tuple(-(-side // 2 ** (i + 1)) for side in grid.size),
                grid=grid,
            )
            for i, channels in enumerate(model.img_bev_encoder_backbone.channels)
        ]
        return {
            'pv': [Tap('img_neck', channels=model.img_neck.out_channels, size=small)],
            'depth': [Tap('img_view_transformer', convert=read_depth, channels=len(lift.bins), size=small)],
            'expected_depth': [
                Tap(
                    'img_view_transformer',
                    convert=partial(read_expected_depth, bins=lift.bins),
                    channels=1,
                    size=small,
                )
            ],
            'lss': [
                Tap(
                    'img_view_transformer.lift_splat',
                    channels=transformer.context_channels,
                    size=grid.size,
                    grid=grid,
                )
            ],
            'backbone': stages,
            'bev': [Tap(self.bev_neck, channels=self.bev_channels(model), size=grid.size, grid=grid)],
            'heads': [Tap(self.head, convert=read_heads, clone=True, grid=grid)],
        }

    def cost_parts(self, model: nn.Module) -> dict[str, str]:
        """Image side, view transformer, pooling and BEV side."""
        more = {'earlier maps': 'pre_process_net'} if model.pre_process_net is not None else {}
        return more | {
            'backbone': 'img_backbone',
            'neck': 'img_neck',
            'pooling': 'img_view_transformer.lift_splat',
            'view transformer': 'img_view_transformer',
            'BEV backbone': 'img_bev_encoder_backbone',
            'BEV neck': 'img_bev_encoder_neck',
            'head': 'pts_bbox_head',
        }

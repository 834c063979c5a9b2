"""What the distiller knows about detectors that read boxes off object queries on a rig of cameras."""

from typing import ClassVar

from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.datasets.blank_batch import blank_images
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch
from projects.mmdet3d_plugin.distill.hosts.query_host import QueryHostAdapter
from projects.mmdet3d_plugin.distill.step import last_frame
from projects.mmdet3d_plugin.distill.taps import Tap


class CameraHostAdapter(QueryHostAdapter):
    """Hosts derived from ``CameraDetector``: ``pv`` is one (B * num_cams, C, h, w) per FPN level."""

    shape_only: ClassVar[tuple[str, ...]] = ('img_backbone', 'img_neck')

    def present(self, model: nn.Module, batch: Batch) -> Batch:
        """The last frame of ``img`` (B, T, num_cams, 3, H, W) and of ``img_metas``, list[B] of list[T]."""
        return last_frame(batch)

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """Those of queries; 'pv': each FPN level's output convolution."""
        levels = model.img_neck.fpn_convs
        return super().aliases(model) | {
            'pv': [
                Tap(f'img_neck.fpn_convs.{i}.conv', channels=level.out_channels)
                for i, level in enumerate(levels)
            ],
        }

    def num_cameras(self, model: nn.Module) -> int:
        """What the transformer is made for."""
        return model.pts_bbox_head.transformer.num_cams

    def blank_batch(self, cfg: Config, cloud: str | None = None) -> Batch:
        """Black images of as many cameras as the model was made for."""
        return blank_images(cfg, cfg.model.pts_bbox_head.transformer.num_cams)

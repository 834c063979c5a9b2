"""PointPillars and CenterPoint on pillars, from voxels on: points are voxelised by whoever feeds the graph."""

from typing import Any, ClassVar

import numpy as np
import torch
from mmcv.ops import Voxelization
from mmdet3d.models.dense_heads.anchor3d_head import Anchor3DHead
from mmdet3d.models.middle_encoders import PointPillarsScatter
from mmdet3d.models.voxel_encoders import PillarFeatureNet
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.deploy.anchor_heads import decode_anchors
from projects.mmdet3d_plugin.engine.deploy.center_heads import decode_centers
from projects.mmdet3d_plugin.engine.deploy.onnx_host import ONNX_HOSTS, Batch, OnnxHost
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession
from projects.mmdet3d_plugin.hosts.detr.camera_detector import to_result


class PillarOnnx(OnnxHost):
    """One cloud, of any number of pillars: what is left after suppression differs from cloud to cloud."""

    axes = OnnxHost.axes | {name: {0: 'pillars'} for name in ('voxels', 'num_points', 'coors')}
    images = False
    prefix: ClassVar[str] = ''
    """What module names begin with."""

    def prepare(self, model: nn.Module) -> None:
        """See the base class."""
        middle = self.part(model, 'middle_encoder')
        if not isinstance(middle, PointPillarsScatter):
            raise UserError(
                f'{type(model).__name__} with a {type(middle).__name__} cannot be written as ONNX, which has no sparse '
                'convolutions; pillars (PointPillarsScatter) can'
            )
        encoder = self.part(model, 'voxel_encoder')
        if isinstance(encoder, PillarFeatureNet) and encoder.legacy and encoder._with_voxel_center:
            _without_legacy(encoder)

    def part(self, model: nn.Module, name: str) -> nn.Module:
        """One of the detector's modules, whatever its names begin with."""
        return getattr(model, self.prefix + name)

    def about(self, model: nn.Module) -> dict[str, Any]:
        """``voxels``: how points become pillars."""
        layer = self.part(model, 'voxel_layer')
        most = layer.max_voxels[1] if isinstance(layer.max_voxels, tuple) else layer.max_voxels
        return dict(
            voxels=dict(
                voxel_size=list(layer.voxel_size),
                point_cloud_range=list(layer.point_cloud_range),
                max_num_points=layer.max_num_points,
                max_voxels=most,
            )
        )

    def example(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The pillars of a made-up street."""
        feed = voxelise(self.about(model)['voxels'], batch['points'][0])
        return {name: torch.from_numpy(value) for name, value in feed.items()}

    def compute(
        self, model: nn.Module, voxels: Tensor, num_points: Tensor, coors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            model: the detector.
            voxels: (V, P, C), the points of each pillar, zeros behind the last; x, y, z in metres first.
            num_points: (V,) int32, how many points a pillar has.
            coors: (V, 3) int32, cell of each pillar along z, y and x.

        Returns:
            (n, 7 or 9) boxes x, y, z, l, w, h, yaw (vx, vy) in the LiDAR frame with gravity centres, (n,) scores and (n,)
            labels, in the detector's order.
        """
        cells = torch.nn.functional.pad(coors, (1, 0))
        features = self.part(model, 'voxel_encoder')(voxels, num_points, cells)
        x = self.part(model, 'backbone')(_scattered(self.part(model, 'middle_encoder'), features, coors))
        if hasattr(model, f'{self.prefix}neck'):
            x = self.part(model, 'neck')(x)
        boxes, scores, labels = self.decode(model, x)
        # without points there is nothing, whatever empty ground looks like
        some = torch.ones_like(scores, dtype=torch.bool) & (num_points.sum() > 0)
        return boxes[some], scores[some], labels[some]

    def decode(self, model: nn.Module, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Levels of the neck (1, C, H, W) -> boxes (n, 7 or 9) with gravity centres, scores (n,) and labels (n,)."""
        head = self.part(model, 'bbox_head')
        if not isinstance(head, Anchor3DHead):
            raise UserError(f'a {type(head).__name__} cannot be written as ONNX yet')
        return decode_anchors(head, *head(features))

    def detect(self, session: OnnxSession, batch: Batch, memory: None) -> list[dict[str, Any]]:
        """Cloud by cloud; results as of the detector's ``simple_test``."""
        (points,), (metas,) = batch['points'], batch['img_metas']
        return [
            self.result(session(voxelise(session.about['voxels'], cloud)), meta)
            for cloud, meta in zip(points, metas, strict=True)
        ]

    def result(self, found: dict[str, Tensor], meta: dict[str, Any]) -> dict[str, Any]:
        """Outputs of the graph as the detector gives them."""
        return to_result(found['boxes'], found['scores'], found['labels'], meta)


@ONNX_HOSTS.register_module(name='VoxelNet')
class VoxelNetOnnx(PillarOnnx):
    """PointPillars."""


@ONNX_HOSTS.register_module(name='MVXFasterRCNN')
class MVXOnnx(PillarOnnx):
    """Pillars with an FPN, as on nuScenes."""

    prefix = 'pts_'

    def result(self, found: dict[str, Tensor], meta: dict[str, Any]) -> dict[str, Any]:
        """``pts_bbox``, where multi-modal detectors put it."""
        return dict(pts_bbox=super().result(found, meta))


@ONNX_HOSTS.register_module(name='CenterPoint')
class CenterPointOnnx(MVXOnnx):
    """CenterPoint on pillars."""

    def decode(self, model: nn.Module, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        head = self.part(model, 'bbox_head')
        return decode_centers(head, head(features))


def _without_legacy(encoder: PillarFeatureNet) -> None:
    """Let an encoder that overwrites the places of points by those relative to the pillar's centre do without.

    A tracer cannot follow what is written into views. The places are there twice, so that their weights can be added.
    """
    if encoder._with_distance:
        raise UserError('PillarFeatureNet with legacy=True and with_distance=True cannot be written as ONNX')
    encoder.legacy = False
    weight = encoder.pfn_layers[0].linear.weight.data
    weight[:, -3:] += weight[:, :3]
    weight[:, :3] = 0


def voxelise(settings: dict[str, Any], cloud: Tensor) -> dict[str, np.ndarray]:
    """The pillars of a cloud (N, C), as :meth:`PillarOnnx.compute` takes them."""
    voxels, coors, num_points = Voxelization(**settings)(cloud.cpu())
    return dict(voxels=voxels.numpy(), num_points=num_points.numpy(), coors=coors.numpy())


def _scattered(middle: PointPillarsScatter, features: Tensor, coors: Tensor) -> Tensor:
    """Features (V, C) of pillars in cells (V, 3) -> map (1, C, ny, nx)."""
    canvas = features.new_zeros(middle.ny * middle.nx, middle.in_channels)
    cell = (coors[:, 1] * middle.nx + coors[:, 2]).long()
    canvas = canvas.index_put((cell,), features)
    return canvas.view(1, middle.ny, middle.nx, middle.in_channels).permute(0, 3, 1, 2)

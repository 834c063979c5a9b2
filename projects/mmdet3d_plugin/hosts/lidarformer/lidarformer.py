"""A LiDAR detector that reads boxes off its BEV feature as BEVFormer does."""

from collections.abc import Sequence
from typing import Any

from mmdet3d.models import detectors
from mmdet3d.models.builder import DETECTORS, build_head
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.detr.camera_detector import to_result
from projects.mmdet3d_plugin.hosts.lidar.voxel_detectors import PointBranch
from projects.mmdet3d_plugin.hosts.lidarformer.bev_decoder_head import BEVDecoderHead
from projects.mmdet3d_plugin.ops.linear import Linear


@DETECTORS.register_module()
class LidarFormer(PointBranch, detectors.MVXTwoStageDetector):
    """Voxels and convolutions for the BEV feature, BEVFormer's decoder for the boxes.

    Made to teach BEVFormer, as the "LidarFormer" of DistillBEV (ICCV 2023) is: its BEV feature is normalised like that of
    BEVFormer's encoder, and a student may start from its head.

    Args:
        pts_bbox_head: config of a :class:`BEVDecoderHead`.
        **branch: as mmdet3d's ``MVXTwoStageDetector`` takes them: ``pts_voxel_layer``, ``pts_voxel_encoder``,
            ``pts_middle_encoder``, ``pts_backbone``, ``pts_neck`` (a SECONDFPN) and ``init_cfg``.

    Raises:
        ValueError: the head reads something else than a BEV feature, or the neck gives more than one map.
    """

    def __init__(self, pts_bbox_head: dict[str, Any], **branch: Any) -> None:
        super().__init__(**branch)
        self.pts_bbox_head = build_head(pts_bbox_head)
        if not isinstance(self.pts_bbox_head, BEVDecoderHead):
            kind = type(self.pts_bbox_head).__name__
            raise ValueError(f'LidarFormer: pts_bbox_head must be a BEVDecoderHead, not a {kind}.')
        if not self.with_pts_neck or isinstance(self.pts_neck.out_channels, int):
            raise ValueError('LidarFormer: pts_neck must be a SECONDFPN, which gives one map.')
        dims = self.pts_bbox_head.transformer.embed_dims
        self.bev_projection = nn.Sequential(Linear(sum(self.pts_neck.out_channels), dims), nn.LayerNorm(dims))

    def extract_pts_feat(
        self, pts: Sequence[Tensor], img_feats: Any = None, img_metas: Any = None
    ) -> list[Tensor]:
        """B clouds (N_i, C) -> the neck's only level, (B, C, H, W)."""
        return self.bev_features(pts)

    def bev(self, levels: Sequence[Tensor]) -> Tensor:
        """The neck's level (B, C, H, W) -> BEV feature (B, H * W, embed_dims), rows (y) first.

        Raises:
            UserError: the map has another size than the head is made for.
        """
        grid, (level,) = self.pts_bbox_head.bev_shape, levels
        if level.shape[-2:] != grid:
            raise UserError(
                f'the neck gives a map of {level.shape[-2]} x {level.shape[-1]} cells, and model.pts_bbox_head.bev_h and bev_w '
                f'say {grid[0]} x {grid[1]}: change these, or the strides of backbone and neck'
            )
        return self.bev_projection(level.flatten(2).transpose(1, 2))

    def predict_raw(self, points: Sequence[Tensor]) -> dict[str, Tensor]:
        """B clouds (N_i, C) -> see :meth:`BEVFormerHead.decode`."""
        return self.pts_bbox_head(self.bev(self.extract_pts_feat(points)))

    def forward_pts_train(
        self,
        pts_feats: Sequence[Tensor],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        *_: Any,
    ) -> dict[str, Tensor]:
        """Losses of the neck's level (B, C, H, W); boxes and labels as :meth:`BEVFormerHead.loss` takes them."""
        return self.pts_bbox_head.loss(gt_bboxes_3d, gt_labels_3d, self.pts_bbox_head(self.bev(pts_feats)))

    def simple_test_pts(
        self, x: Sequence[Tensor], img_metas: Sequence[dict[str, Any]], rescale: bool = False
    ) -> list[dict[str, Any]]:
        """The neck's level (B, C, H, W) -> per sample ``boxes_3d`` (n, 9), ``scores_3d`` and ``labels_3d``, on the CPU."""
        found = self.pts_bbox_head.get_bboxes(self.pts_bbox_head(self.bev(x)))
        return [to_result(*one, meta) for one, meta in zip(found, img_metas, strict=True)]

"""mmdet3d's voxel detectors for clouds of which no point lies in range.

mmdet3d takes the size of a batch from its last voxel, so that a cloud without any ends in an IndexError, and an empty
last cloud of a batch in losses of too few samples. The classes here replace those of mmdet3d under the same names:
weights, features and losses of all other clouds are the same.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

from mmdet3d.models import detectors
from mmdet3d.models.builder import DETECTORS
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.models import evaluating

_FEW = 2  # voxels that a batch norm needs for statistics


class _Voxelising(nn.Module):
    """What VoxelNet and the point branch of MVX detectors have in common; ``prefix`` is what module names begin with."""

    prefix: ClassVar[str] = ''

    def bev_features(self, points: Sequence[Tensor], *more: Any) -> list[Tensor]:
        """Features from above of B clouds.

        Args:
            points: B clouds (N_i, C), x, y, z first, metres, LiDAR frame; any may have no point in range.
            more: what else the voxel encoder takes.

        Returns:
            Levels of the neck, (B, C, H, W) each. Where no cloud has a voxel, they come from a map of zeros with a
            live graph.
        """
        encoder, middle, backbone = (
            getattr(self, f'{self.prefix}{name}') for name in ('voxel_encoder', 'middle_encoder', 'backbone')
        )
        voxels, num_points, coors = self.voxelize(points)
        empty = not len(coors)
        if empty:  # a stand-in, of which only the shape is kept
            voxels = voxels.new_zeros(1, *voxels.shape[1:])
            num_points, coors = num_points.new_ones(1), coors.new_zeros(1, 4)
        # where there are too few voxels for statistics of their own, batch norms use the running ones
        few = len(coors) < _FEW
        with evaluating(nn.ModuleList([encoder, middle])) if few else nullcontext():
            x = middle(encoder(voxels, num_points, coors, *more), coors, len(points))
        x = backbone(x * 0 if empty else x)
        return getattr(self, f'{self.prefix}neck')(x) if getattr(self, f'with_{self.prefix}neck') else x


def out_of_range(layer: nn.Module, points: Sequence[Tensor]) -> list[bool]:
    """Which clouds have no point in the range that a detector voxelises.

    Args:
        layer: mmcv's ``Voxelization``.
        points: B clouds (N_i, 3+), metres.
    """
    low, high = points[0].new_tensor(layer.point_cloud_range).view(2, 3)
    return [not ((cloud[:, :3] >= low) & (cloud[:, :3] < high)).all(1).any() for cloud in points]


def _nothing_in(result: dict[str, Any]) -> dict[str, Any]:
    """A result without its boxes."""
    return {key: value[:0] for key, value in result.items()}


@DETECTORS.register_module(name='VoxelNet', force=True)
class VoxelNet(_Voxelising, detectors.VoxelNet):
    """PointPillars and SECOND; nothing is detected in a cloud without points in range."""

    def extract_feat(self, points: Sequence[Tensor], img_metas: Sequence[Any] | None = None) -> list[Tensor]:
        """B clouds (N_i, C) -> levels of the neck, (B, C, H, W) each."""
        return self.bev_features(points)

    def simple_test(self, points: Sequence[Tensor], *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """B clouds (N_i, C) -> per cloud ``boxes_3d``, ``scores_3d`` and ``labels_3d``."""
        results = super().simple_test(points, *args, **kwargs)
        empty = out_of_range(self.voxel_layer, points)
        return [_nothing_in(r) if none else r for r, none in zip(results, empty, strict=True)]


class PointBranch(_Voxelising):
    """The point branch of MVX detectors."""

    prefix: ClassVar[str] = 'pts_'

    def simple_test(self, points: Sequence[Tensor], *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """B clouds (N_i, C) -> per cloud ``pts_bbox`` with ``boxes_3d``, ``scores_3d`` and ``labels_3d``."""
        results = super().simple_test(points, *args, **kwargs)
        for result, none in zip(results, out_of_range(self.pts_voxel_layer, points), strict=True):
            if none:
                result['pts_bbox'] = _nothing_in(result['pts_bbox'])
        return results


@DETECTORS.register_module(name='MVXFasterRCNN', force=True)
class MVXFasterRCNN(PointBranch, detectors.MVXFasterRCNN):
    """Pillars with an FPN; nothing is detected in a cloud without points in range."""

    def extract_pts_feat(self, pts: Sequence[Tensor], img_feats: Any, img_metas: Any) -> list[Tensor] | None:
        """B clouds (N_i, C) -> levels of the neck, (B, C, H, W) each."""
        return self.bev_features(pts, img_feats, img_metas) if self.with_pts_bbox else None


@DETECTORS.register_module(name='CenterPoint', force=True)
class CenterPoint(PointBranch, detectors.CenterPoint):
    """CenterPoint with pillars or voxels; nothing is detected in a cloud without points in range."""

    ignores_boxes: ClassVar[bool] = True
    """That its losses regard ``gt_bboxes_ignore``."""

    def extract_pts_feat(self, pts: Sequence[Tensor], img_feats: Any, img_metas: Any) -> list[Tensor] | None:
        """B clouds (N_i, C) -> levels of the neck, (B, C, H, W) each."""
        return self.bev_features(pts) if self.with_pts_bbox else None

    def forward_pts_train(
        self,
        pts_feats: Sequence[Tensor],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        img_metas: Sequence[Any],
        gt_bboxes_ignore: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Losses of levels (B, C, H, W); mmdet3d passes over ``gt_bboxes_ignore``, B tensors (m_i, 7)."""
        outputs, truth = self.pts_bbox_head(pts_feats), (gt_bboxes_3d, gt_labels_3d)
        return self.pts_bbox_head.loss(*truth, outputs, gt_bboxes_ignore=gt_bboxes_ignore)

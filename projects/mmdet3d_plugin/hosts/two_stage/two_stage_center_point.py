"""CenterPoint with a second stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet3d.models.builder import DETECTORS
from torch import Tensor

from projects.mmdet3d_plugin.hosts.lidar.voxel_detectors import CenterPoint
from projects.mmdet3d_plugin.hosts.two_stage.two_stage import TwoStage


@DETECTORS.register_module()
class TwoStageCenterPoint(TwoStage, CenterPoint):
    """CenterPoint whose boxes are scored and refined by a second stage (Yin et al., CVPR 2021).

    The second stage corrects place, size and yaw; velocities, on nuScenes, stay as the first stage says: they come from
    the motion between sweeps, and a second stage looks at one box.

    Args:
        roi_head: config of the second stage, a :class:`~projects.mmdet3d_plugin.hosts.two_stage.roi_head.RoIHead`.
        others: as ``CenterPoint`` takes them.
    """

    def __init__(self, roi_head: Mapping[str, Any], **others: Any) -> None:
        super().__init__(**others)
        self.add_second_stage(roi_head)

    def dense_losses(
        self,
        outputs: Any,
        img_metas: Sequence[Mapping[str, Any]],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        gt_bboxes_ignore: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """See the base class; ``outputs`` are lists over tasks."""
        truth = gt_bboxes_3d, gt_labels_3d
        return self.pts_bbox_head.loss(*truth, outputs, gt_bboxes_ignore=gt_bboxes_ignore)

    def simple_test(
        self, points: Sequence[Tensor], img_metas: Sequence[Any], *_: Any, **__: Any
    ) -> list[dict[str, Any]]:
        """B clouds (N_i, C) -> per cloud ``pts_bbox`` with ``boxes_3d``, ``scores_3d`` and ``labels_3d``."""
        return [{'pts_bbox': one} for one in self.final_results(points, img_metas)]

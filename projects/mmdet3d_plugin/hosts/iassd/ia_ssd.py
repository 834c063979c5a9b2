"""IA-SSD as a detector of mmdet3d."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmdet3d.core import bbox3d2result
from mmdet3d.models.builder import DETECTORS
from mmdet3d.models.detectors.single_stage import SingleStage3DDetector
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.iassd.centroid_outputs import CentroidOutputs
from projects.mmdet3d_plugin.hosts.iassd.instance_aware_net import Encoded
from projects.mmdet3d_plugin.hosts.iassd.point_set import joined_clouds


@DETECTORS.register_module()
class IASSD(SingleStage3DDetector):
    """IA-SSD (Zhang et al., "Not All Points Are Equal", CVPR 2022), with CPU kernels for its sampling and grouping.

    Clouds may have any number of points, none too: nothing is padded, and a cloud's detections do not depend on what else
    is in its batch.

    Args:
        backbone: config of an :class:`InstanceAwareNet`.
        bbox_head: config of a :class:`CentroidHead`.
        point_cloud_range: x0, y0, z0, x1, y1, z1 in metres; points beyond are left out.
        train_cfg: not used.
        test_cfg: of the head.
        init_cfg: as for every module of mmcv.
    """

    ignores_boxes: ClassVar[bool] = True
    """That its losses regard ``gt_bboxes_ignore``."""

    def __init__(
        self,
        backbone: dict[str, Any],
        bbox_head: dict[str, Any],
        point_cloud_range: Sequence[float],
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            backbone, bbox_head=bbox_head, train_cfg=train_cfg, test_cfg=test_cfg, init_cfg=init_cfg
        )
        self.point_cloud_range = list(map(float, point_cloud_range))

    def extract_feat(self, points: Sequence[Tensor], img_metas: Any = None) -> Encoded:
        """B clouds (N_i, 4), x, y, z and intensity, metres, LiDAR frame -> points after every stage."""
        low, high = points[0].new_tensor(self.point_cloud_range).view(2, 3)
        near = [cloud[((cloud[:, :3] >= low) & (cloud[:, :3] < high)).all(1)] for cloud in points]
        return self.backbone(joined_clouds(near))

    def raw_outputs(self, points: Sequence[Tensor]) -> CentroidOutputs:
        """B clouds (N_i, 4) -> what the head says."""
        return self.bbox_head(self.extract_feat(points))

    def forward_train(
        self,
        points: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        gt_bboxes_ignore: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Losses.

        Args:
            points: B clouds (N_i, 4).
            img_metas: B of them.
            gt_bboxes_3d: B times n_i LiDAR boxes.
            gt_labels_3d: B times (n_i,).
            gt_bboxes_ignore: B times (m_i, 7) boxes in which points count neither as object nor as background; None for
                none.
        """
        return self.bbox_head.loss(self.raw_outputs(points), gt_bboxes_3d, gt_labels_3d, gt_bboxes_ignore)

    def simple_test(
        self, points: Sequence[Tensor], img_metas: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """B clouds (N_i, 4) -> per cloud ``boxes_3d``, ``scores_3d`` and ``labels_3d``."""
        found = self.bbox_head.get_bboxes(self.raw_outputs(points), img_metas)
        return [bbox3d2result(*one) for one in found]

    def aug_test(self, *args: Any, **kwargs: Any) -> None:
        """Several views of one cloud: not offered."""
        raise UserError(
            'IASSD looks at one view of each cloud: leave flips and scales out of the test pipeline'
        )

"""mmdet3d's PointRCNN, which says where it can run."""

from mmdet3d.models.builder import DETECTORS
from mmdet3d.models.detectors.point_rcnn import PointRCNN
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError


@DETECTORS.register_module()
class PointSetRCNN(PointRCNN):
    """PointRCNN; mmdet3d's weights fit.

    Its operators on point sets (furthest point sampling, ball query, grouping, interpolation, pooling of points in
    boxes) exist in mmcv-full for CUDA only; there the first of them ends a CPU run deep inside an extension.
    """

    def extract_feat(self, points: Tensor) -> dict[str, Tensor]:
        """Points (B, N, 4) -> ``fp_xyz`` (B, N, 3) and ``fp_features`` (B, C, N)."""
        if not points.is_cuda:
            raise UserError(
                'PointRCNN needs a GPU: mmcv-full has its point operators (furthest point sampling, ball query) for '
                'CUDA only; run it with --device cuda on such a machine, or take SECOND or PointPillars here'
            )
        return super().extract_feat(points)

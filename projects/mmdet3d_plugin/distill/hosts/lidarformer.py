"""What the distiller knows about LidarFormer."""

from typing import Any, ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections
from projects.mmdet3d_plugin.distill.hosts.bev_query_host import BEVQueryHostAdapter
from projects.mmdet3d_plugin.distill.hosts.mvx import MVXAdapter
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VOXELS, given_voxels
from projects.mmdet3d_plugin.distill.registry import ADAPTERS


@ADAPTERS.register_module(name='LidarFormer')
class LidarFormerAdapter(BEVQueryHostAdapter, MVXAdapter):
    """A voxel host's ``voxels``, ``scatter`` and ``backbone``; ``bev``, ``queries``, ``heads`` and ``boxes`` as BEVFormer's."""

    bev_path: ClassVar[str] = 'bev_projection'

    def infer(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Raw predictions of points (list of (N_i, C)): ``bev_embed``, ``all_cls_scores``, ``all_bbox_preds``."""
        with given_voxels(model, batch.get(VOXELS)):
            return model.predict_raw(batch['points'])

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Final boxes (n, 9); none in clouds without points in range."""
        return self.where_points_are(model, batch, super().detect(model, batch, predictions))

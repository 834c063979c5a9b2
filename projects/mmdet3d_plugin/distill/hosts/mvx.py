"""What the distiller knows about detectors with a branch for points: pillars on nuScenes, CenterPoint's base."""

from typing import ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VoxelHostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS


@ADAPTERS.register_module(name='MVXTwoStageDetector')
class MVXAdapter(VoxelHostAdapter):
    """The point branch of MVXFasterRCNN; ``heads`` as for VoxelNet."""

    prefix: ClassVar[str] = 'pts_'
    head: ClassVar[str] = 'pts_bbox_head'

    def features(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Levels of the neck, (B, C, H, W) each."""
        return model.extract_pts_feat(batch['points'], None, batch['img_metas'])

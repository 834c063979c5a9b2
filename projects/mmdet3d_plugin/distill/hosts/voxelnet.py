"""What the distiller knows about VoxelNet: PointPillars and SECOND."""

from typing import ClassVar

from projects.mmdet3d_plugin.distill.hosts.voxel_host import VoxelHostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS


@ADAPTERS.register_module(name='VoxelNet')
class VoxelNetAdapter(VoxelHostAdapter):
    """PointPillars and SECOND.

    ``heads`` is (class scores, box codes, direction scores), each a list over levels of (B, anchors * n, H, W).
    """

    head: ClassVar[str] = 'bbox_head'

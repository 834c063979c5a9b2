"""BEVDepth's head: a BEV encoder below CenterPoint's head."""

from typing import Any

import torch
from mmdet3d.models.builder import HEADS, build_backbone, build_neck
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.lidar.center_point_head import CenterPointHead


@HEADS.register_module()
class BEVDepthHead(CenterPointHead):
    """ResNet without pooling and SECONDFPN on the BEV map, then a centre head per task; all in float32.

    Args:
        trunk: config of the ResNet.
        neck: config of the SECONDFPN, which also takes the BEV map itself.
        **center_head: arguments of :class:`CenterPointHead`.
    """

    def __init__(self, trunk: dict[str, Any], neck: dict[str, Any], **center_head: Any) -> None:
        super().__init__(**center_head)
        self.trunk, self.neck = build_backbone(trunk), build_neck(neck)
        self.trunk.maxpool = nn.Identity()

    def forward(self, bev: Tensor) -> tuple[list[dict[str, Tensor]], ...]:
        """BEV map (B, C, H, W) -> per task a list of one dict, see :meth:`CenterHead.forward`."""
        with torch.autocast(bev.device.type, enabled=False):
            bev = bev if bev.dtype == torch.float64 else bev.float()
            return super().forward(self.neck([bev, *self.trunk(bev)]))

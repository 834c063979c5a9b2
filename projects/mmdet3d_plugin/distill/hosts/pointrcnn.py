"""What the distiller knows about PointRCNN."""

from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections
from projects.mmdet3d_plugin.distill.hosts.lidar_adapter import LidarAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap


@ADAPTERS.register_module(name='PointRCNN')
class PointRCNNAdapter(LidarAdapter):
    """PointRCNN: one feature per point.

    - ``points``: (B, C, N), row-aligned by construction, since every network keeps all N points of its input.
    - ``heads``: first stage: box codes (B, N, 8) and class scores (B, N, classes).
    """

    head: ClassVar[str] = 'rpn_head'

    def infer(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Raw predictions of the first stage, as ``heads`` gives them."""
        return model.rpn_head(model.extract_feat(torch.stack(batch['points'])))

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Boxes after the second stage; the first is run again, since it does not return its features."""
        found = model.simple_test(batch['points'], batch['img_metas'])
        return [Detections(one['boxes_3d'], one['scores_3d'], one['labels_3d']) for one in found]

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'points' and 'heads', see the class."""
        width = model.neck.FP_modules[-1].mlps[-1].conv.out_channels
        return {
            'points': [Tap('neck', convert=itemgetter('fp_features'), channels=width)],
            'heads': [Tap('rpn_head', clone=True)],
        }

"""DETR3D: 3D Object Detection from Multi-view Images via 3D-to-2D Queries (CoRL 2021)."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models import DETECTORS
from torch import Tensor

from projects.mmdet3d_plugin.hosts.detr.camera_detector import CameraDetector
from projects.mmdet3d_plugin.hosts.detr3d.published_weights import config_hint


@DETECTORS.register_module()
class DETR3D(CameraDetector):
    """Camera detector without a BEV map and without a memory.

    Args:
        **detector: arguments of :class:`CameraDetector`; its head is a :class:`DETR3DHead`.
    """

    def __init__(self, **detector: Any) -> None:
        super().__init__(**detector)
        # The decoder gathers whole cells. Written channel by channel, the maps would have to be turned around first.
        for convolution in getattr(self.img_neck, 'fpn_convs', ()):
            convolution.to(memory_format=torch.channels_last)

    def weights_hint(self, state: Mapping[str, Tensor]) -> str:
        """Which config weights that do not fit belong to, for the message; '' when that is not known."""
        return config_hint(state)

    def predict_raw(self, img: Tensor, img_metas: list[list[dict]]) -> dict[str, Tensor]:
        """Raw head outputs of the last frame of a queue.

        Args:
            img: (B, T, num_cams, 3, H, W); frames before the last are not looked at.
            img_metas: B lists of T dicts.

        Returns:
            See :meth:`DETRHead.read_boxes`.
        """
        return self.pts_bbox_head(self.extract_feat(img[:, -1]), [metas[-1] for metas in img_metas])

    def forward_train(
        self,
        img: Tensor,
        img_metas: list[list[dict]],
        gt_bboxes_3d: list[Any],
        gt_labels_3d: list[Tensor],
        **_: Any,
    ) -> dict[str, Tensor]:
        """Detection losses of the last frame; arguments as in :meth:`predict_raw` and ``DETRHead.loss``."""
        return self.pts_bbox_head.loss(gt_bboxes_3d, gt_labels_3d, self.predict_raw(img, img_metas))

    def forward_test(self, img: Tensor, img_metas: list[list[dict]], **_: Any) -> list[dict[str, Any]]:
        """Detect objects in the last frame of each queue; arguments as in :meth:`predict_raw`.

        Returns:
            See :meth:`CameraDetector.results`.
        """
        return self.results(self.predict_raw(img, img_metas), [metas[-1] for metas in img_metas])

"""What detectors on images of several cameras share: backbone, neck, hidden squares, and results."""

from typing import Any

from mmdet.models import build_backbone, build_head, build_neck
from mmdet3d.models.detectors.base import Base3DDetector
from torch import Tensor

from projects.mmdet3d_plugin.hosts.detr.grid_mask import GridMask


class CameraDetector(Base3DDetector):
    """A backbone and a neck on the images of all cameras, and a head with object queries.

    Args:
        img_backbone: config of an image backbone.
        img_neck: config of a neck with L outputs.
        pts_bbox_head: config of a :class:`DETRHead`.
        use_grid_mask: hide a random grid of the images while training.
        init_cfg: initialisation, see mmcv.
        train_cfg: unused, accepted for mmdet's builder.
        test_cfg: unused, accepted for mmdet's builder.
    """

    def __init__(
        self,
        img_backbone: dict[str, Any],
        img_neck: dict[str, Any],
        pts_bbox_head: dict[str, Any],
        use_grid_mask: bool = True,
        init_cfg: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.img_backbone = build_backbone(img_backbone)
        self.img_neck = build_neck(img_neck)
        self.pts_bbox_head = build_head(pts_bbox_head)
        self.grid_mask = GridMask() if use_grid_mask else None

    def extract_feat(self, img: Tensor) -> list[Tensor]:
        """Image features.

        Args:
            img: (B, num_cams, 3, H, W).

        Returns:
            L tensors (B, num_cams, C, h, w).
        """
        batch, flat = img.shape[:2], img.flatten(0, 1)
        if self.grid_mask is not None:
            flat = self.grid_mask(flat)
        return [feat.unflatten(0, batch) for feat in self.img_neck(self.img_backbone(flat))]

    def results(self, outs: dict[str, Tensor], img_metas: list[dict]) -> list[dict[str, Any]]:
        """Final boxes of what the head returned.

        Args:
            outs: see :meth:`DETRHead.read_boxes`.
            img_metas: one dict per sample.

        Returns:
            Per sample ``boxes_3d`` (``LiDARInstance3DBoxes``, (n, 9)), ``scores_3d`` (n,), ``labels_3d`` (n,), on the CPU.
        """
        detections = self.pts_bbox_head.get_bboxes(outs)
        return [to_result(*det, meta) for det, meta in zip(detections, img_metas, strict=True)]

    def simple_test(self, img: Tensor, img_metas: list[list[dict]], **kwargs: Any) -> list[dict[str, Any]]:
        """mmdet's name for ``forward_test``."""
        return self.forward_test(img, img_metas, **kwargs)

    def aug_test(self, *_: Any, **__: Any) -> None:
        """Test-time augmentation is not defined for detectors on a rig of cameras."""
        raise NotImplementedError(
            f'{type(self).__name__} has no test-time augmentation: use a test pipeline with one view.'
        )


def to_result(boxes: Tensor, scores: Tensor, labels: Tensor, meta: dict) -> dict[str, Any]:
    """Boxes (n, 9) with gravity centres to mmdet3d's result dict on the CPU."""
    box_type = meta['box_type_3d']
    wrapped = box_type(boxes.cpu(), box_dim=boxes.shape[-1], origin=(0.5, 0.5, 0.5))
    return dict(boxes_3d=wrapped, scores_3d=scores.cpu(), labels_3d=labels.cpu())

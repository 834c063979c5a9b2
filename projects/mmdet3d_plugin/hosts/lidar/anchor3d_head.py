"""mmdet3d's anchor head, which ignores what it is told to ignore in frames without objects too."""

from typing import Any

from mmdet3d.models.builder import HEADS
from mmdet3d.models.dense_heads import anchor3d_head
from torch import Tensor


@HEADS.register_module(name='Anchor3DHead', force=True)
class Anchor3DHead(anchor3d_head.Anchor3DHead):
    """The head of PointPillars and SECOND; weights, outputs and losses of all else are mmdet3d's.

    mmdet3d asks an assigner only where a frame has an object of its class: elsewhere, all anchors of the class were
    background, those in boxes that should be left out too.
    """

    def anchor_target_single_assigner(
        self,
        bbox_assigner: Any,
        anchors: Tensor,
        gt_bboxes: Any,
        gt_bboxes_ignore: Tensor | None,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        """Targets of the anchors of one class in one frame.

        Args:
            bbox_assigner: of the class.
            anchors: (..., 7).
            gt_bboxes: n objects.
            gt_bboxes_ignore: (m, 7) boxes whose anchors count neither as object nor as background.
            args, kwargs: labels and so on.

        Returns:
            What mmdet3d's head returns: labels, their weights, box targets, their weights, direction targets, their
            weights, and the indices of positive and of negative anchors.
        """
        found = super().anchor_target_single_assigner(
            bbox_assigner, anchors, gt_bboxes, gt_bboxes_ignore, *args, **kwargs
        )
        limit = getattr(bbox_assigner, 'ignore_iof_thr', -1)
        if len(gt_bboxes) or gt_bboxes_ignore is None or not len(gt_bboxes_ignore) or limit <= 0:
            return found
        labels, weights, *boxes, positive, negative = found
        flat = anchors.reshape(-1, anchors.shape[-1])
        # as MaxIoUAssigner does it
        asked = (flat, gt_bboxes_ignore) if bbox_assigner.ignore_wrt_candidates else (gt_bboxes_ignore, flat)
        shares = bbox_assigner.iou_calculator(*asked, mode='iof')
        ignored = shares.amax(1 if bbox_assigner.ignore_wrt_candidates else 0) > limit
        return labels, weights.masked_fill(ignored, 0), *boxes, positive, negative[~ignored[negative]]

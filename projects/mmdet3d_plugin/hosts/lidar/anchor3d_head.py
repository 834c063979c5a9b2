"""mmdet3d's anchor head, where boxes to be ignored say nothing against an object."""

from typing import Any

from mmdet3d.models.builder import HEADS
from mmdet3d.models.dense_heads import anchor3d_head
from torch import Tensor


@HEADS.register_module(name='Anchor3DHead', force=True)
class Anchor3DHead(anchor3d_head.Anchor3DHead):
    """The head of PointPillars and SECOND; weights, outputs and losses of all else are mmdet3d's.

    Of the anchors in boxes to be ignored, those that stand for no object are left out. mmdet3d leaves out those of objects
    too, so that the label of an object that reaches into such a box is lost, and in frames without an object of the
    class it leaves out none.
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
            gt_bboxes_ignore: (m, 7) boxes whose anchors are not background; ``ignore_iof_thr`` of the assigner says
                from which share of them on.
            args, kwargs: labels and so on.

        Returns:
            What mmdet3d's head returns: labels, their weights, box targets, their weights, direction targets, their
            weights, and the indices of positive and of negative anchors.
        """
        found = super().anchor_target_single_assigner(
            bbox_assigner, anchors, gt_bboxes, None, *args, **kwargs
        )
        limit = getattr(bbox_assigner, 'ignore_iof_thr', -1)
        if gt_bboxes_ignore is None or not len(gt_bboxes_ignore) or limit <= 0:
            return found
        labels, weights, *boxes, positive, negative = found
        flat = anchors.reshape(-1, anchors.shape[-1])[negative]
        # as MaxIoUAssigner does it
        asked = (flat, gt_bboxes_ignore) if bbox_assigner.ignore_wrt_candidates else (gt_bboxes_ignore, flat)
        shares = bbox_assigner.iou_calculator(*asked, mode='iof')
        ignored = shares.amax(1 if bbox_assigner.ignore_wrt_candidates else 0) > limit
        return labels, weights.index_fill(0, negative[ignored], 0), *boxes, positive, negative[~ignored]

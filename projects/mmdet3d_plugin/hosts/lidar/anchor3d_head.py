"""mmdet3d's anchor head, where boxes to be ignored say nothing against an object, and heads alike assign anchors once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mmdet3d.models.builder import HEADS
from mmdet3d.models.dense_heads import anchor3d_head
from torch import Tensor


class SharedTargets:
    """What several heads of the same anchors are to predict of one batch; the last of them to ask lets go of it.

    Attributes:
        heads: how many there are.
    """

    def __init__(self) -> None:
        self.heads, self.left = 1, 0
        self.sizes: list[Any] = []
        self.truth: list[Any] = []
        self.found: tuple | None = None

    def of(self, sizes: list[Any], truth: list[Any], assign: Callable[[], tuple | None]) -> tuple | None:
        """What another head was given for the very same objects, or new targets.

        Args:
            sizes: of the anchors, and where they are.
            truth: boxes and labels of the batch, told apart by identity.
            assign: makes targets.
        """
        known = self.left and sizes == self.sizes and len(truth) == len(self.truth)
        if known and all(one is other for one, other in zip(truth, self.truth, strict=True)):
            self.left -= 1
        else:
            self.sizes, self.truth, self.found, self.left = sizes, truth, assign(), self.heads - 1
        found = self.found
        if not self.left:
            self.truth, self.found = [], None
        return found


@HEADS.register_module(name='Anchor3DHead', force=True)
class Anchor3DHead(anchor3d_head.Anchor3DHead):
    """The head of PointPillars and SECOND; weights, outputs and losses of all else are mmdet3d's.

    Of the anchors in boxes to be ignored, those that stand for no object are left out. mmdet3d leaves out those of objects
    too, so that the label of an object that reaches into such a box is lost, and in frames without an object of the
    class it leaves out none.

    Attributes:
        shared: targets that other heads of the same anchors use too, or None.
    """

    shared: SharedTargets | None = None

    def share_targets(self, other: 'Anchor3DHead') -> None:
        """Assign anchors once for both heads, a third of a head's loss; their settings must be alike."""
        self.shared = self.shared or SharedTargets()
        self.shared.heads += 1
        other.shared = self.shared

    def anchor_target_3d(
        self,
        anchor_list: list[list[Tensor]],
        gt_bboxes_list: Sequence[Any],
        input_metas: Sequence[dict[str, Any]],
        gt_bboxes_ignore_list: Sequence[Any] | None = None,
        gt_labels_list: Sequence[Tensor] | None = None,
        **settings: Any,
    ) -> tuple | None:
        """Targets of all anchors of a batch.

        Args:
            anchor_list: of each frame, by level.
            gt_bboxes_list: boxes of each frame.
            input_metas: of each frame.
            gt_bboxes_ignore_list: of each frame, boxes whose anchors are not background.
            gt_labels_list: of each frame.
            settings: the head's own.

        Returns:
            What mmdet3d's head returns, lists over levels, or None without valid anchors.
        """
        truth = (gt_bboxes_list, gt_bboxes_ignore_list, gt_labels_list)
        assign = partial(
            super().anchor_target_3d,
            anchor_list,
            gt_bboxes_list,
            input_metas,
            gt_bboxes_ignore_list,
            gt_labels_list,
            **settings,
        )
        if self.shared is None or isinstance(anchor_list[0][0], list):  # the latter: classes apart
            return assign()
        sizes = [(level.shape, level.device) for levels in anchor_list for level in levels]
        return self.shared.of(sizes, [item for items in truth for item in items or ()], assign)

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

"""Label distillation: the teacher's boxes become targets of the student, before its own loss."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmdet.core import bbox_overlaps
from torch import Tensor

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections
from projects.mmdet3d_plugin.distill.registry import TARGETS, DistillError
from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import footprint_iou


@TARGETS.register_module()
class TeacherLabels:
    """Add the teacher's confident boxes to the ground truth (SparseKD's label distillation).

    Ground truth comes first, so that a detector's limit on the number of objects cuts the teacher's boxes and not it,
    and a box of the teacher is dropped where it overlaps the ground truth or a surer box of the teacher, so that no
    object is a target twice. The teacher's boxes are the final ones of its host, which have passed non-maximum
    suppression; the published code takes them before.

    Args:
        score_thr: least score, one for all classes or one per class in the order of labels.
        overlap: drop what overlaps more than this, seen from above, with something better; of any class.
        compat: as published: the teacher's boxes before the ground truth, duplicates included.
    """

    moves_world: ClassVar[bool] = False
    """Whether the student learns in another world than the teacher saw, turned or mirrored, say."""

    def __init__(
        self, score_thr: float | Sequence[float] = 0.6, overlap: float = 0.1, compat: bool = False
    ) -> None:
        if not 0 <= overlap <= 1:
            raise ValueError(f'overlap must lie between 0 and 1, got {overlap}')
        self.score_thr, self.overlap, self.compat = score_thr, overlap, compat

    def __call__(self, batch: Batch, detections: Sequence[Detections]) -> Batch:
        """New targets.

        Args:
            batch: the student's, with ``gt_bboxes_3d`` (list of B boxes) and ``gt_labels_3d`` (list of B (n,)), or with
                ``gt_bboxes`` (list of B (n, 4), pixels) and ``gt_labels`` of detectors in single images.
            detections: the teacher's, of the same B samples in the same frame of coordinates.

        Returns:
            A batch with more boxes and labels; the argument is not changed.
        """
        boxes, labels = (
            ('gt_bboxes_3d', 'gt_labels_3d') if 'gt_bboxes_3d' in batch else ('gt_bboxes', 'gt_labels')
        )
        if boxes not in batch:
            raise DistillError("TeacherLabels adds boxes, but the student's batch has no ground truth")
        changed = [self.join(*sample) for sample in zip(batch[boxes], batch[labels], detections, strict=True)]
        return {**batch, boxes: [item[0] for item in changed], labels: [item[1] for item in changed]}

    def join(self, boxes: Any, labels: Tensor, found: Detections) -> tuple[Any, Tensor]:
        """Targets of one sample.

        Args:
            boxes: n ground-truth boxes, LiDAR frame; or (n, 4), pixels.
            labels: (n,).
            found: m boxes of the teacher, scores (m,) and labels (m,).

        Returns:
            n + k boxes and (n + k,) labels, k <= m.
        """
        sure = self.confident(found)
        more, names = like_ground_truth(found.boxes[sure], boxes), found.labels[sure].to(labels)
        join = torch.cat if isinstance(boxes, Tensor) else type(boxes).cat
        if self.compat:
            return join([more, boxes]), torch.cat([names, labels])
        new = first_of_overlapping(boxes, more, self.overlap)
        return join([boxes, more[new]]), torch.cat([labels, names[new]])

    def confident(self, found: Detections) -> Tensor:
        """Indices of the boxes whose score is above the limit of their class, surest first."""
        limit = torch.as_tensor(self.score_thr, dtype=found.scores.dtype, device=found.scores.device)
        if limit.dim() and len(found.labels) and int(found.labels.max()) >= len(limit):
            raise DistillError(
                f'TeacherLabels has score_thr for {len(limit)} classes, but the teacher found label '
                f'{int(found.labels.max())}; give one number, or one per class'
            )
        limit = limit[found.labels] if limit.dim() else limit
        order = found.scores.argsort(descending=True)
        return order[(found.scores > limit)[order]]


def like_ground_truth(found: Any, boxes: Any) -> Any:
    """The teacher's boxes where the ground truth is, with as many numbers per box as it has; a student without velocity
    needs none."""
    if isinstance(boxes, Tensor):
        return found.to(boxes)
    width = boxes.tensor.shape[1]
    if found.tensor.shape[1] < width:
        raise DistillError(
            f'the ground truth has {width} numbers per box (velocity), the boxes of the teacher {found.tensor.shape[1]}; '
            'TeacherLabels needs a teacher that predicts them all'
        )
    return type(boxes)(found.tensor[:, :width], box_dim=width).to(boxes.tensor.device)


def first_of_overlapping(taken: Any, boxes: Any, overlap: float) -> Tensor:
    """Which boxes overlap nothing that comes before them.

    Args:
        taken: n boxes of mmdet3d, seen from above, or (n, 4) in pixels; they stay in any case.
        boxes: m of the same, best first.
        overlap: largest intersection over union that is not an overlap.

    Returns:
        (m,) bool.
    """
    free = (overlaps(boxes, taken) <= overlap).all(1)
    among = overlaps(boxes, boxes) > overlap
    for i in range(1, len(boxes)):
        free[i] &= not (among[i, :i] & free[:i]).any()
    return free


def overlaps(boxes: Any, others: Any) -> Tensor:
    """Intersection over union (m, n) of boxes of mmdet3d seen from above, or of (m, 4) with (n, 4) in pixels."""
    if isinstance(boxes, Tensor):
        return bbox_overlaps(boxes, others)
    return footprint_iou(boxes.bev, others.bev)

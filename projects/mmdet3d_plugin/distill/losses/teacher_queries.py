"""The sparse half of BEVDistill: what a teacher detects teaches the queries of a DETR-type student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.box_codec import encode_boxes
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions.region import join_boxes, join_labels, pc_range_of
from projects.mmdet3d_plugin.distill.regions.teacher_boxes import TeacherBoxes, teacher_boxes
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.hosts.detr.hungarian_assigner import HungarianAssigner
from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import iou_from_above

CODE_WEIGHTS = (1.0,) * 8 + (0.2, 0.2)


@LOSSES.register_module()
class TeacherQueries(DistillLoss):
    """Match the student's queries one to one with the teacher's final boxes and let them predict these (BEVDistill, Chen et
    al., ICLR 2023, sparse instance distillation).

    A box counts by its quality ``q = score^g IoU^(1 - g)``, IoU being that with the ground truth of its class which it fits
    best, seen from above: a box that is sure but wrong teaches no place, and of its class that there is none. Per decoder
    layer and sample, over matched pairs:
    ``(sum |q - p|^2 BCE(p, q) + box_weight * sum q |codes - codes|_1) / max(sum q, 1)``, where the class vector of a pair is
    q at the box's class and 0 elsewhere (quality focal loss), then the mean over layers and samples. Quality weighs once.
    Queries that match nothing learn nothing here; the student's own loss says what is background.

    Any teacher will do, in any BEV or none; only the student must have queries: ``on='boxes'``.

    Args:
        top_k: boxes per sample, best first.
        min_score: least score of a box.
        power: g; 1 takes the teacher's boxes as they are, without ground truth.
        box_weight: of the codes.
        class_weight: of the class vectors.
        layers: how many of the last decoder layers learn; None for all.
    """

    reads_teacher = False
    takes_connector = False

    def __init__(
        self,
        top_k: int = 100,
        min_score: float = 0.1,
        power: float = 0.5,
        box_weight: float = 0.25,
        class_weight: float = 1.0,
        layers: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= power <= 1 or top_k < 1 or (layers is not None and layers < 1):
            raise ValueError(
                f'power must lie in [0, 1], top_k and layers be at least 1: {power}, {top_k}, {layers}'
            )
        self.top_k, self.min_score, self.power = top_k, min_score, power
        self.box_weight, self.class_weight, self.layers = box_weight, class_weight, layers
        self.assigner = HungarianAssigner()

    def forward(self, student: dict[str, Tensor], *, step: Step) -> Tensor:
        """Distance between queries and boxes.

        Args:
            student: ``scores`` (L, B, Q, K), logits, and ``codes`` (L, B, Q, 10) in the convention v1.0.
            step: with the teacher's detections and the ground truth.

        Returns:
            Scalar.
        """
        first = 0 if self.layers is None else -self.layers
        scores, codes = student['scores'][first:], student['codes'][first:]
        found = within(
            teacher_boxes(step, scores.device, self.top_k, self.min_score),
            pc_range_of(step.batch['img_metas']),
        )
        quality = box_quality(step, found, self.power).to(scores)
        targets = encode_boxes(found.boxes.to(codes), 'v1.0')
        losses = [0 * scores.sum() + 0 * codes.sum()]
        for i in range(scores.shape[1]):
            mine = found.sample == i
            if mine.any():
                losses.append(
                    self._sample(scores[:, i], codes[:, i], targets[mine], found.labels[mine], quality[mine])
                )
        return torch.stack(losses).sum() / max(scores.shape[1], 1)

    def _sample(
        self, scores: Tensor, codes: Tensor, targets: Tensor, labels: Tensor, quality: Tensor
    ) -> Tensor:
        """Mean over layers of one sample's loss: scores (L, Q, K), codes (L, Q, 10), and n boxes."""
        pairs = self.assigner(scores, codes, labels, targets)
        query, box = (torch.stack(part) for part in zip(*pairs, strict=True))  # (L, min(Q, n))
        layer = torch.arange(len(query), device=query.device)[:, None]
        logits, ours = scores[layer, query], codes[layer, query]
        wanted = F.one_hot(labels[box], scores.shape[-1]) * quality[box][..., None]
        surprise = F.binary_cross_entropy_with_logits(logits, wanted, reduction='none')
        classes = ((wanted - logits.sigmoid()).detach().square() * surprise).sum((1, 2))
        target = targets[box]
        target = target.where(target.isfinite(), ours.detach())  # a teacher may not know velocities
        gap = (ours - target).abs() * ours.new_tensor(CODE_WEIGHTS)
        boxes = (gap.sum(-1) * quality[box]).sum(1)
        total = quality[box].sum(1).clamp(min=1)
        return ((self.class_weight * classes + self.box_weight * boxes) / total).mean()


def within(found: TeacherBoxes, limits: list[float]) -> TeacherBoxes:
    """Boxes whose centres lie within ``[x0, y0, z0, x1, y1, z1]`` metres, seen from above: what the student can see."""
    x, y = found.boxes[:, :2].unbind(1)
    kept = (x >= limits[0]) & (y >= limits[1]) & (x < limits[3]) & (y < limits[4])
    return TeacherBoxes(found.boxes[kept], found.sample[kept], found.scores[kept], found.labels[kept])


def box_quality(step: Step, found: TeacherBoxes, power: float) -> Tensor:
    """How far each box of the teacher is to be believed, ``score^power * IoU^(1 - power)``.

    Args:
        step: with the ground truth.
        found: M boxes.
        power: 1 for the score alone.

    Returns:
        (M,) in [0, 1].
    """
    if power == 1:
        return found.scores
    boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], found.boxes.device)
    labels = join_labels(step.batch['gt_labels_3d'], found.boxes.device)
    if not len(boxes) or not len(found.boxes):
        return found.scores.new_zeros(len(found.scores))
    same = (found.sample[:, None] == sample) & (found.labels[:, None] == labels)
    overlap = (iou_from_above(found.boxes, boxes) * same).amax(1)
    return found.scores**power * overlap ** (1 - power)

"""What a teacher finally detects, of any host and sense, and how far ground truth agrees."""

from dataclasses import dataclass

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.regions.region import join_boxes, join_labels
from projects.mmdet3d_plugin.distill.step import Step


@dataclass(frozen=True)
class TeacherBoxes:
    """The boxes that a teacher detects in a batch; all constants.

    Args:
        boxes: (M, 9) gravity centres, sizes, yaw and velocity in metres, radians and m/s, LiDAR frame; the velocity is NaN
            of a teacher that does not predict it.
        sample: (M,) index of each box's sample.
        scores: (M,) probabilities.
        labels: (M,).
    """

    boxes: Tensor
    sample: Tensor
    scores: Tensor
    labels: Tensor


def teacher_boxes(step: Step, device: torch.device, top_k: int, min_score: float) -> TeacherBoxes:
    """The surest final boxes of the teacher.

    Args:
        step: its ``detections`` are found when they are first asked for.
        device: where the result lives.
        top_k: boxes per sample at the most.
        min_score: least score.

    Returns:
        Boxes in the order of samples, best first.
    """
    key = ('teacher_boxes', top_k, min_score)
    if key not in step.cache:
        parts = []
        for i, (boxes, scores, labels) in enumerate(step.detections):
            best = scores.argsort(descending=True)[:top_k]
            best = best[scores[best] >= min_score]
            tensor = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1)[best]
            unknown = tensor.new_full((len(tensor), 9 - tensor.shape[1]), torch.nan)
            sample = torch.full_like(best, i)
            parts.append((torch.cat([tensor, unknown], dim=1), sample, scores[best], labels[best]))
        joined = [torch.cat(part).to(device) for part in zip(*parts, strict=True)]
        step.cache[key] = TeacherBoxes(joined[0].float(), joined[1], joined[2].float(), joined[3].long())
    return step.cache[key]


def box_agreement(step: Step, found: TeacherBoxes, distance: float) -> tuple[Tensor, Tensor]:
    """How well each ground truth and each box of the teacher agree with the best of the other.

    Two agree by ``score * exp(-|centre - centre| / distance)``, seen from above, where their classes are one.

    Args:
        step: its batch gives ``gt_bboxes_3d`` and ``gt_labels_3d``.
        found: of the teacher.
        distance: metres at which a right class counts 1 / e.

    Returns:
        (N,) of the ground truth in the order of :func:`join_boxes`, and (M,) of the boxes, both in [0, 1].
    """
    boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], found.boxes.device)
    labels = join_labels(step.batch['gt_labels_3d'], found.boxes.device)
    if not len(boxes) or not len(found.boxes):
        return boxes.new_zeros(len(boxes)), boxes.new_zeros(len(found.boxes))
    gap = torch.cdist(boxes[:, :2], found.boxes[:, :2])
    same = (sample[:, None] == found.sample) & (labels[:, None] == found.labels)
    pairs = found.scores * torch.exp(-gap / distance) * same
    return pairs.amax(1), pairs.amax(0)

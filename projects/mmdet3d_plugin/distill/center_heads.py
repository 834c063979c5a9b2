"""What CenterPoint's heads return, task by task, next to the ground truth of each task."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.regions.region import join_boxes, join_labels
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step

Heads = Sequence[Mapping[str, Tensor]]
"""One dict per task: ``heatmap`` (B, K, H, W) logits, ``reg`` (B, 2, H, W), ``height``, ``dim``, ``rot``, ``vel``."""


def check_same_tasks(student: Heads, teacher: Heads) -> None:
    """Raise unless two detectors group the same numbers of classes into tasks."""
    ours, theirs = ([head['heatmap'].shape[1] for head in heads] for heads in (student, teacher))
    if ours != theirs:
        raise ValueError(
            f"the student's tasks have {ours} classes and the teacher's {theirs}; give both heads the same 'tasks'"
        )


def teacher_heatmap(step: Step) -> Tensor:
    """Probabilities (B, K, H, W) of the teacher's centre heads, K classes in the order of labels.

    Raises:
        DistillError: the teacher has no such heads.
    """
    heads = step.predictions.get('heads') if isinstance(step.predictions, Mapping) else step.predictions
    if not (
        isinstance(heads, list) and all(isinstance(head, Mapping) and 'heatmap' in head for head in heads)
    ):
        raise DistillError(
            "heatmaps of the teacher are asked for, but it has no centre heads; take its boxes instead, with heat='boxes'"
        )
    return torch.cat([head['heatmap'] for head in heads], dim=1).sigmoid()


def boxes_by_task(step: Step, heads: Heads) -> list[tuple[Tensor, Tensor]]:
    """Ground-truth boxes of each task; labels count through the tasks' classes in order.

    Args:
        step: its batch gives ``gt_bboxes_3d`` and ``gt_labels_3d``, lists of B.
        heads: say how many classes each task has.

    Returns:
        Per task (M, 7) gravity-centre boxes in metres and (M,) their sample index.
    """
    device = heads[0]['heatmap'].device
    boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], device)
    labels = join_labels(step.batch['gt_labels_3d'], device)
    found, first = [], 0
    for head in heads:
        after = first + head['heatmap'].shape[1]
        mine = (labels >= first) & (labels < after)
        found.append((boxes[mine], sample[mine]))
        first = after
    return found

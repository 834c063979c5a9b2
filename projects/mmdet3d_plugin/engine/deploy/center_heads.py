"""Boxes of a centre head, as CenterPoint and BEVDepth have it, in operations that ONNX has."""

import torch
from mmdet3d.models.dense_heads.centerpoint_head import CenterHead
from torch import Tensor

from projects.mmdet3d_plugin.engine.deploy.suppression import suppress_close, suppress_rotated


def decode_centers(
    head: CenterHead, outputs: tuple[list[dict[str, Tensor]], ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``CenterHead.get_bboxes`` gives for one frame, with gravity centres.

    Args:
        head: gives the coder and ``test_cfg``.
        outputs: of the head's forward pass, per task a list of one dict of maps (1, C, H, W).

    Returns:
        (n, 7 or 9) boxes, (n,) scores and (n,) labels, task by task, best first in each.
    """
    found, first = [], 0
    for task, (maps,) in enumerate(outputs):
        boxes, scores, labels = _candidates(head, maps, task)
        kept = _suppressed(head.test_cfg, task, boxes, scores)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept].long() + first
        if head.test_cfg['nms_type'] == 'rotate':
            low, high = boxes.new_tensor(head.test_cfg['post_center_limit_range']).view(2, 3)
            inside = ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(1)
            boxes, scores, labels = boxes[inside], scores[inside], labels[inside]
        found.append((boxes, scores, labels))
        first += head.num_classes[task]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _candidates(head: CenterHead, maps: dict[str, Tensor], task: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best cells of a task's heatmaps as boxes (n, 7 or 9), scores (n,) and labels (n,)."""
    (found,) = head.bbox_coder.decode(
        maps['heatmap'].sigmoid(),
        maps['rot'][:, :1],
        maps['rot'][:, 1:],
        maps['height'],
        maps['dim'].exp() if head.norm_bbox else maps['dim'],
        maps.get('vel'),
        reg=maps['reg'],
        task_id=task,
    )
    boxes, scores, labels = found['bboxes'], found['scores'], found['labels']
    threshold = head.test_cfg.get('score_threshold', 0.0)
    if head.test_cfg['nms_type'] == 'rotate' and threshold > 0:
        likely = scores >= threshold
        boxes, scores, labels = boxes[likely], scores[likely], labels[likely]
    return boxes, scores, labels


def _suppressed(settings: dict, task: int, boxes: Tensor, scores: Tensor) -> Tensor:
    """(m,) indices of the boxes that stay, best first."""
    if settings['nms_type'] == 'circle':
        kept = suppress_close(boxes[:, :2], scores, settings['min_radius'][task])
    else:
        plane = boxes[:, [0, 1, 3, 4, 6]]
        kept = suppress_rotated(plane, scores, settings['nms_thr'], settings.get('pre_max_size'))
    return kept[: settings.get('post_max_size')]

"""Boxes of an anchor head, as PointPillars has it, in operations that ONNX has."""

import math
from collections.abc import Sequence

import torch
from mmdet3d.models.dense_heads.anchor3d_head import Anchor3DHead
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.deploy.suppression import suppress_rotated


def decode_anchors(
    head: Anchor3DHead, logits: Sequence[Tensor], deltas: Sequence[Tensor], turns: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``Anchor3DHead.get_bboxes`` gives for one frame, with gravity centres.

    Args:
        head: gives anchors, coder and ``test_cfg``.
        logits: per level (1, anchors * num_classes, H, W).
        deltas: per level (1, anchors * 7 or 9, H, W).
        turns: per level (1, anchors * 2, H, W), logits of the direction.

    Returns:
        (n, 7 or 9) boxes, (n,) scores and (n,) labels: class by class and best first in each, or best first where there
        are more than ``max_num``.

    Raises:
        UserError: the head suppresses boxes as if they were not turned, or has softmax scores.
    """
    if not head.test_cfg.get('use_rotate_nms') or not head.use_sigmoid_cls:
        raise UserError(
            'only anchor heads with sigmoid scores and test_cfg.use_rotate_nms=True can be written as ONNX'
        )
    sizes = [level.shape[-2:] for level in logits]
    anchors = head.anchor_generator.grid_anchors(sizes, device=logits[0].device)
    levels = zip(anchors, logits, deltas, turns, strict=True)
    boxes, scores, turned = (
        torch.cat(parts) for parts in zip(*(_best(head, *level) for level in levels), strict=True)
    )
    picked = [_of_class(head, boxes, scores[:, label]) for label in range(head.num_classes)]
    labels = torch.cat([torch.full_like(index, label) for label, index in enumerate(picked)])
    index = torch.cat(picked)
    score = scores[index, labels]
    first = _first(score, head.test_cfg['max_num'])
    index, score, labels = index[first], score[first], labels[first]
    return _directed(head, boxes[index], turned[index]), score, labels


def _best(
    head: Anchor3DHead, anchors: Tensor, logits: Tensor, deltas: Tensor, turns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (n, 7 or 9), scores (n, num_classes) and directions (n,) of a level's most likely anchors."""
    code, classes = head.box_code_size, head.num_classes
    scores, deltas, turns = (
        maps[0].permute(1, 2, 0).reshape(-1, width)
        for maps, width in ((logits, classes), (deltas, code), (turns, 2))
    )
    anchors, scores, turned = anchors.reshape(-1, code), scores.sigmoid(), turns.argmax(-1)
    most = head.test_cfg.get('nms_pre', -1)
    if 0 < most < anchors.shape[0]:
        best = scores.amax(1).topk(most)[1]
        anchors, deltas, scores, turned = anchors[best], deltas[best], scores[best], turned[best]
    return head.bbox_coder.decode(anchors, deltas), scores, turned


def _of_class(head: Anchor3DHead, boxes: Tensor, scores: Tensor) -> Tensor:
    """(m,) indices of the boxes (n, 7 or 9) of one class that stay, best first."""
    (likely,) = (scores > head.test_cfg.get('score_thr', 0)).nonzero(as_tuple=True)
    plane = boxes[likely][:, [0, 1, 3, 4, 6]]
    return likely[suppress_rotated(plane, scores[likely], head.test_cfg['nms_thr'])]


def _first(scores: Tensor, most: int) -> Tensor:
    """All of (n,) in their order, or the best where there are more than so many."""
    place = torch.arange(scores.shape[0], device=scores.device)
    many = place.new_ones(()) * scores.shape[0] > most
    return torch.where(many, scores.sort(descending=True)[1], place)[:most]


def _directed(head: Anchor3DHead, boxes: Tensor, turned: Tensor) -> Tensor:
    """Boxes (n, 7 or 9) with the bottom's centre -> with gravity centres, looking where the directions (n,) say."""
    yaw = boxes[:, 6] - head.dir_offset
    yaw = yaw - torch.floor(yaw / math.pi + head.dir_limit_offset) * math.pi
    yaw = yaw + head.dir_offset + math.pi * turned.to(boxes.dtype)
    height = boxes[:, 2] + boxes[:, 5] / 2
    return torch.cat([boxes[:, :2], height[:, None], boxes[:, 3:6], yaw[:, None], boxes[:, 7:]], 1)

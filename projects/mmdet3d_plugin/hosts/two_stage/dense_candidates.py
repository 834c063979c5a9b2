"""Decode the best rows of a dense head's output without losing which rows they are.

mmdet3d's own ``get_bboxes`` returns boxes that have forgotten their anchor or cell. Rows are counted as the heads'
losses flatten them:

- anchors: levels one after the other, each (H, W, anchors of a place), row-major, as ``permute(0, 2, 3, 1)`` of the
  head's maps gives them;
- cells of a centre head: tasks one after the other, each (H, W).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmcv.utils import Registry
from mmdet3d.core.bbox.structures.utils import limit_period
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError

DENSE_HEADS = Registry('dense head')
"""Class of a head -> function ``(head, outputs, sample, count) -> Candidates``; base classes count."""


class Candidates(NamedTuple):
    """The best boxes of one cloud, best first: (K, 7) bottom centres, or (K, 9) with velocities along x and y, m/s, where
    the head predicts them; scores (K,), labels (K,), rows (K,); of how many rows."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    indices: Tensor
    total: int

    def __getitem__(self, which: Tensor) -> 'Candidates':
        """Some of the boxes: indices or (K,) bool."""
        return Candidates(*(part[which] for part in tuple(self)[:-1]), self.total)


def number_of_classes(head: nn.Module) -> int:
    """Classes of a dense head, those of all tasks of a centre head."""
    return sum(head.num_classes) if isinstance(head.num_classes, list | tuple) else head.num_classes


@torch.no_grad()
def candidates_of(head: nn.Module, outputs: Any, count: int) -> list[Candidates]:
    """Of each cloud, the boxes of which some class is most probable.

    Args:
        head: the dense head, whose coder is used.
        outputs: what it returned for B clouds; it is not changed.
        count: boxes per cloud at the most. Boxes that are not finite are left out.

    Raises:
        UserError: boxes of this kind of head cannot be decoded.
    """
    kinds = [kind.__name__ for kind in type(head).__mro__ if kind.__name__ in DENSE_HEADS.module_dict]
    if not kinds:
        raise UserError(
            f'a second stage cannot take the boxes of a {type(head).__name__}; heads whose boxes it takes: '
            f'{", ".join(sorted(DENSE_HEADS.module_dict))}'
        )
    decode = DENSE_HEADS.module_dict[kinds[0]]
    clouds = len(_first_tensor(outputs))
    return [_real(decode(head, outputs, sample, count)) for sample in range(clouds)]


def _first_tensor(outputs: Any) -> Tensor:
    """Some tensor (B, ...) of nested lists and dicts."""
    while not isinstance(outputs, Tensor):
        outputs = next(iter(outputs.values() if isinstance(outputs, Mapping) else outputs))
    return outputs


def _real(found: Candidates) -> Candidates:
    """Without boxes that an untrained head made infinite or flat."""
    real = found.boxes.isfinite().all(1) & (found.boxes[:, 3:6] > 0).all(1)
    return found[real]


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (A, classes) -> scores, labels and rows of the best, (K,) each."""
    best, labels = scores.max(1)
    top, rows = best.topk(min(count, len(best)))
    return top, labels[rows], rows


def _rows(maps: Sequence[Tensor], sample: int, width: int) -> Tensor:
    """One cloud's maps (B, anchors * width, H, W), one per level -> (A, width)."""
    return torch.cat([level[sample].permute(1, 2, 0).reshape(-1, width) for level in maps])


@DENSE_HEADS.register_module(name='Anchor3DHead')
def anchor_candidates(head: nn.Module, outputs: Sequence, sample: int, count: int) -> Candidates:
    """Boxes of an anchor head (SECOND, PointPillars), whose direction bin decides between a yaw and its opposite.

    Args:
        head: mmdet3d's ``Anchor3DHead``.
        outputs: (class scores, box codes, direction scores), lists over levels of (B, anchors * n, H, W).
        sample: which cloud.
        count: boxes at the most.
    """
    logits, codes = _rows(outputs[0], sample, head.num_classes), outputs[1]
    scores, labels, rows = _best(logits.sigmoid(), count)
    sizes = [level.shape[-2:] for level in outputs[0]]
    levels = head.anchor_generator.grid_anchors(sizes, device=logits.device)
    anchors = torch.cat([level.reshape(-1, head.box_code_size) for level in levels])
    boxes = head.bbox_coder.decode(anchors[rows], _rows(codes, sample, head.box_code_size)[rows])[:, :7]
    if head.use_direction_classifier:
        half = _rows(outputs[2], sample, 2)[rows].argmax(1)
        yaw = limit_period(boxes[:, 6] - head.dir_offset, head.dir_limit_offset, math.pi)
        boxes[:, 6] = yaw + head.dir_offset + math.pi * half.to(boxes)
    return Candidates(boxes, scores, labels, rows, len(logits))


@DENSE_HEADS.register_module(name='CenterHead')
def center_candidates(head: nn.Module, outputs: Sequence, sample: int, count: int) -> Candidates:
    """Boxes of a centre head; one per cell and task, of the task's most probable class.

    Args:
        head: mmdet3d's ``CenterHead``.
        outputs: a list over tasks of dicts with ``heatmap`` (B, K, H, W) logits, ``reg``, ``height``, ``dim`` and
            ``rot``, on nuScenes ``vel``, or of lists with one such dict, as the head returns them.
        sample: which cloud.
        count: boxes at the most.
    """
    tasks = [task[0] if isinstance(task, list | tuple) else task for task in outputs]
    cells = tasks[0]['heatmap'].shape[2:].numel()
    found, first = [], 0
    for number, task in enumerate(tasks):
        classes = task['heatmap'].shape[1]
        scores, labels, rows = _best(_rows([task['heatmap']], sample, classes).sigmoid(), count)
        boxes = _center_boxes(head, task, sample, rows)
        found.append((boxes, scores, labels + first, rows + number * cells))
        first += classes
    joined = Candidates(*map(torch.cat, zip(*found, strict=True)), len(tasks) * cells)
    return joined[joined.scores.topk(min(count, len(joined.scores))).indices]


def _center_boxes(head: nn.Module, task: dict[str, Tensor], sample: int, rows: Tensor) -> Tensor:
    """Boxes (K, 7), or (K, 9) with velocities, of some cells (K,) of one task."""
    keys = [key for key in ('reg', 'height', 'dim', 'rot', 'vel') if key in task]
    code = {key: _rows([task[key]], sample, task[key].shape[1])[rows] for key in keys}
    coder, width = head.bbox_coder, task['heatmap'].shape[3]
    cell = torch.stack([rows % width, rows.div(width, rounding_mode='floor')], 1) + code['reg']
    size = code['dim'].exp() if head.norm_bbox else code['dim']
    place = cell * coder.out_size_factor * cell.new_tensor(coder.voxel_size[:2])
    place = place + cell.new_tensor(coder.pc_range[:2])
    bottom = code['height'] - size[:, 2:] / 2  # heads regress gravity centres
    yaw = torch.atan2(code['rot'][:, :1], code['rot'][:, 1:])
    return torch.cat([place, bottom, size, yaw, *([code['vel']] if 'vel' in code else [])], 1)

"""Centre heads: CenterPoint, BEVDepth."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.center_heads import Heads
from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead, renewed
from projects.mmdet3d_plugin.distill.registry import DistillError

_KEYS = ('reg', 'height', 'dim', 'rot')


class DenseCells(DenseHead):
    """mmdet3d's ``CenterHead``: rows are cells, tasks one after the other, each (H, W); places are cells.

    Args:
        head: the host's module.
        whole: whether it reads the detector's BEV map and nothing lies between, so that a head like it can be made.
    """

    offers: ClassVar[str] = 'centre heads'

    def __init__(self, head: nn.Module, whole: bool = True) -> None:
        super().__init__(head)
        self.whole = whole

    def logits(self, outputs: Heads) -> Tensor:
        """See the base class; the classes of all tasks in their order."""
        return torch.cat([task['heatmap'] for task in outputs], 1).flatten(2).transpose(1, 2)

    def rows(self, outputs: Heads) -> int:
        """See the base class."""
        return sum(task['heatmap'][0, 0].numel() for task in outputs)

    def layout(self) -> dict[str, Any]:
        """See the base class."""
        coder = self.head.bbox_coder
        cell = [side * coder.out_size_factor for side in coder.voxel_size[:2]]
        return dict(corner=list(coder.pc_range[:2]), cell=cell, tasks=list(self.head.num_classes))

    def map_size(self, outputs: Heads) -> tuple[int, int]:
        """See the base class."""
        return tuple(outputs[0]['heatmap'].shape[-2:])

    def place(self, outputs: Heads, rows: Tensor) -> Tensor:
        """See the base class."""
        height, width = self.map_size(outputs)
        return rows % (height * width)

    def codes(self, outputs: Heads, sample: Tensor, rows: Tensor) -> Tensor:
        """See the base class: offset (2), height, size (3), sine and cosine of yaw."""
        return torch.cat([_task_rows(task) for task in outputs], 1)[sample, rows]

    @torch.no_grad()
    def encode(self, outputs: Heads, rows: Tensor, boxes: Tensor) -> Tensor:
        """See the base class."""
        coder, width = self.head.bbox_coder, self.map_size(outputs)[1]
        cell = self.place(outputs, rows)
        corner = torch.stack([cell % width, cell.div(width, rounding_mode='floor')], 1)
        size = boxes.new_tensor(coder.voxel_size[:2]) * coder.out_size_factor
        offset = (boxes[:, :2] - boxes.new_tensor(coder.pc_range[:2])) / size - corner
        middle = boxes[:, 2:3] + boxes[:, 5:6] / 2
        sides = boxes[:, 3:6].log() if self.head.norm_bbox else boxes[:, 3:6]
        return torch.cat([offset, middle, sides, boxes[:, 6:7].sin(), boxes[:, 6:7].cos()], 1)

    def distance(self, codes: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        if not len(codes):  # mmdet's losses of nothing are scalars
            return codes.sum(1)
        weights = self.head.train_cfg.get('code_weights') or [1.0] * codes.shape[1]
        weights = codes.new_tensor(weights[: codes.shape[1]])
        return (self.head.loss_bbox(codes, targets, reduction_override='none') * weights).sum(1)

    def fresh(self) -> nn.Module:
        """See the base class."""
        if not self.whole:
            raise DistillError(f'a {type(self.head).__name__} holds the BEV encoder too: no sub-head')
        return renewed(self.head)

    @property
    def in_channels(self) -> int:
        """See the base class."""
        return self.head.in_channels

    def run(self, head: nn.Module, feature: Tensor) -> Heads:
        """See the base class."""
        return [levels[0] for levels in head([feature])]

    def detection_loss(self, head: nn.Module, outputs: Heads, batch: dict[str, Any]) -> Tensor:
        """See the base class; the host turns logits into probabilities in place, so it gets copies."""
        tasks = [[{key: value.clone() for key, value in task.items()}] for task in outputs]
        truth = batch['gt_bboxes_3d'], batch['gt_labels_3d']
        found = head.loss(*truth, tasks, gt_bboxes_ignore=batch.get('gt_bboxes_ignore'))
        return torch.stack(list(found.values())).sum()


def _task_rows(task: Mapping[str, Tensor]) -> Tensor:
    """The code (B, H * W, 8) of one task."""
    parts: Sequence[Tensor] = [task[key] for key in _KEYS]
    return torch.cat(parts, 1).flatten(2).transpose(1, 2)

"""Anchor heads: SECOND, PointPillars."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead, renewed
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.hosts.lidar.anchor3d_head import Anchor3DHead

Outputs = Sequence[Sequence[Tensor]]
"""(class scores, box codes, direction scores), lists over levels of (B, anchors * n, H, W)."""


class DenseAnchors(DenseHead):
    """mmdet3d's ``Anchor3DHead``: rows are anchors, levels one after the other, each (H, W, anchors of a cell)."""

    offers: ClassVar[str] = 'anchor heads'

    def logits(self, outputs: Outputs) -> Tensor:
        """See the base class."""
        return _rows(outputs[0], self.head.num_classes)

    def rows(self, outputs: Outputs) -> int:
        """See the base class."""
        return sum(level[0].numel() for level in outputs[1]) // self.head.box_code_size

    def layout(self) -> dict[str, Any]:
        """See the base class; anchors fill the range however many cells there are."""
        anchors = self.head.anchor_generator
        values = dict(
            ranges=anchors.ranges, sizes=anchors.sizes, scales=anchors.scales, rotations=anchors.rotations
        )
        return {'anchor ' + name: np.asarray(value).tolist() for name, value in values.items()}

    def codes(self, outputs: Outputs, sample: Tensor, rows: Tensor) -> Tensor:
        """See the base class."""
        return _rows(outputs[1], self.head.box_code_size)[sample, rows]

    @torch.no_grad()
    def encode(self, outputs: Outputs, rows: Tensor, boxes: Tensor) -> Tensor:
        """See the base class; the offsets of boxes from their anchors by the head's coder."""
        if self.head.box_code_size != boxes.shape[1]:
            raise DistillError(
                f"the head's boxes have {self.head.box_code_size} numbers, refined ones {boxes.shape[1]}; set box_weight=0"
            )
        sizes = [level.shape[-2:] for level in outputs[1]]
        levels = self.head.anchor_generator.grid_anchors(sizes, device=boxes.device)
        anchors = torch.cat([level.reshape(-1, self.head.box_code_size) for level in levels])
        return self.head.bbox_coder.encode(anchors[rows].to(boxes), boxes)

    def distance(self, codes: Tensor, targets: Tensor) -> Tensor:
        """See the base class; yaws by the sine of their difference where the host compares them so."""
        if not len(codes):  # mmdet's losses of nothing are scalars
            return codes.sum(1)
        if self.head.diff_rad_by_sin:
            codes, targets = self.head.add_sin_difference(codes, targets)
        return self.head.loss_bbox(codes, targets, reduction_override='none').sum(1)

    def fresh(self) -> nn.Module:
        """See the base class."""
        if self.head.anchor_generator.num_levels > 1:
            raise DistillError('the anchors of several levels of an FPN cannot lie on one map: no sub-head')
        new = renewed(self.head)
        if isinstance(self.head, Anchor3DHead):
            self.head.share_targets(new)
        return new

    @property
    def in_channels(self) -> int:
        """See the base class."""
        return self.head.feat_channels

    def map_size(self, outputs: Outputs) -> tuple[int, int]:
        """See the base class; of the first level."""
        return tuple(outputs[0][0].shape[-2:])

    def run(self, head: nn.Module, feature: Tensor) -> Outputs:
        """See the base class."""
        return head([feature])

    def detection_loss(self, head: nn.Module, outputs: Outputs, batch: dict[str, Any]) -> Tensor:
        """See the base class."""
        truth = batch['gt_bboxes_3d'], batch['gt_labels_3d'], batch['img_metas']
        found = head.loss(*outputs, *truth, gt_bboxes_ignore=batch.get('gt_bboxes_ignore'))
        return torch.stack([level for levels in found.values() for level in levels]).sum()


def _rows(levels: Sequence[Tensor], width: int) -> Tensor:
    """Maps (B, anchors * width, H, W), one per level -> (B, rows, width)."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, width) for level in levels], 1)

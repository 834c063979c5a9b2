"""mmdet3d's centre head with the initial values that it means to have, boxes to be ignored, and single candidates."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet3d.models.builder import HEADS
from mmdet3d.models.dense_heads import centerpoint_head
from torch import Tensor, nn

_NOTHING = -100.0  # a logit that no loss of a heatmap holds against a cell, and that sends no gradient


@HEADS.register_module(name='CenterHead', force=True)
class CenterHead(centerpoint_head.CenterHead):
    """mmdet3d's centre head; weights, outputs and losses are mmdet3d's, but for boxes to be ignored.

    mmdet3d takes these boxes and passes over them. Of codes that are NaN, as a velocity that nobody knows, it zeroes the
    weight, but leaves 0 * NaN in the sum: here they count nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_bbox = _KnownCodes(self.loss_bbox)

    def loss(
        self,
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        preds_dicts: Sequence[Any],
        gt_bboxes_ignore: Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """mmdet3d's losses, where cells in boxes to be ignored are no background; those of objects' centres count.

        Args:
            gt_bboxes_3d: B times n_i LiDAR boxes.
            gt_labels_3d: B times (n_i,), counted through the classes of all tasks.
            preds_dicts: per task a list of one dict with ``heatmap`` (B, K, H, W), logits, and so on.
            gt_bboxes_ignore: B tensors (m_i, 7+), bottom centres, metres and radians, LiDAR frame.
            kwargs: mmdet3d takes more and passes over it.
        """
        if gt_bboxes_ignore is not None and any(map(len, gt_bboxes_ignore)):
            truth = [boxes.tensor for boxes in gt_bboxes_3d], gt_labels_3d
            left_out = self._left_out(preds_dicts[0][0]['heatmap'], *truth, gt_bboxes_ignore)
            per_task = left_out.split([len(names) for names in self.class_names], 1)
            preds_dicts = [
                [dict(task, heatmap=task['heatmap'].masked_fill(mine, _NOTHING))]
                for (task,), mine in zip(preds_dicts, per_task, strict=True)
            ]
        return super().loss(gt_bboxes_3d, gt_labels_3d, preds_dicts, **kwargs)

    def _left_out(
        self,
        like: Tensor,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        ignored: Sequence[Tensor],
    ) -> Tensor:
        """Which cells of which classes are not background: (B, classes, H, W) bool.

        Args:
            like: (B, K, H, W), a heatmap.
            boxes: B tensors (n_i, 7+) of objects.
            labels: B tensors (n_i,).
            ignored: B tensors (m_i, 7+).
        """
        height, width = like.shape[-2:]
        corner = like.new_tensor(self.train_cfg['point_cloud_range'][:2])
        cell = like.new_tensor(self.train_cfg['voxel_size'][:2]) * self.train_cfg['out_size_factor']
        left_out = like.new_zeros(len(like), sum(map(len, self.class_names)), height, width, dtype=torch.bool)
        for own, truth, kinds, unsure in zip(left_out, boxes, labels, ignored, strict=True):
            unsure = unsure[:, :7].to(like)
            own |= _cells_in(unsure - F.pad(corner, (0, 5)), cell, height, width)
            x, y = ((truth.to(like)[:, :2] - corner) / cell).long().unbind(1)
            kinds = kinds.to(x)
            within = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (kinds >= 0)
            own[kinds[within], y[within], x[within]] = False
        return left_out


class _KnownCodes(nn.Module):
    """A loss of box codes for targets some of which are NaN and weigh nothing.

    Args:
        loss: of codes and targets of one shape.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, codes: Tensor, targets: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As the loss; see mmdet."""
        return self.loss(codes, targets.where(~targets.isnan(), torch.zeros_like(targets)), *args, **kwargs)


def _cells_in(boxes: Tensor, cell: Tensor, height: int, width: int) -> Tensor:
    """Cells whose middles lie in boxes (m, 7), and those in which the boxes' centres lie: (height, width) bool.

    Args:
        boxes: x and y from the corner of the map on.
        cell: (2,) metres along x and y.
        height: cells along y.
        width: cells along x.
    """
    center_x, center_y, _, length, breadth, _, yaw = boxes[:, :, None, None].unbind(1)
    x = (torch.arange(width).to(boxes) + 0.5) * cell[0] - center_x
    y = (torch.arange(height).to(boxes)[:, None] + 0.5) * cell[1] - center_y
    cos, sin = yaw.cos(), yaw.sin()
    ahead, left = x * cos + y * sin, y * cos - x * sin
    inside = (2 * ahead.abs() <= length) & (2 * left.abs() <= breadth)
    # a pedestrian may lie between the middles of large cells
    inside |= (2 * x.abs() <= cell[0]) & (2 * y.abs() <= cell[1])
    return inside.any(0)


@HEADS.register_module()
class CenterPointHead(CenterHead):
    """The head of CenterPoint; weights of mmdet3d's ``CenterHead`` fit.

    mmdet3d keeps the heads of the tasks in a plain ``ModuleList``, where mmcv's recursion does not find their
    ``init_weights``: heatmaps then start at a probability of one half instead of one tenth. That is mended. The
    rest of those ``init_weights``, Kaiming's values for the last convolutions too, would make logits of several units
    at random and a first heatmap loss a hundred times as large.
    """

    def init_weights(self) -> None:
        """Initialise the shared convolution and the biases of all heatmaps."""
        super().init_weights()
        for task in self.task_heads:
            task.heatmap[-1].bias.data.fill_(task.init_bias)

    def get_task_detections(
        self, num_class_with_bg: int, batch_cls_preds: Sequence[Tensor], *args: Any
    ) -> list[dict[str, Tensor]]:
        """What is left of one task's candidates after non-maximum suppression.

        mmdet3d squeezes scores, which makes a number of a list of one, and fails where no threshold restores it.

        Args:
            num_class_with_bg: of the task.
            batch_cls_preds: B times scores (n_i,).
            args: boxes, labels and metas.
        """
        return super().get_task_detections(
            num_class_with_bg, [scores[:, None] for scores in batch_cls_preds], *args
        )

"""What every region is, and how ground truth reaches it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step, present_metas

Range = Sequence[float]


class Region(nn.Module):
    """Base of everything that says where a term matters; ``forward(step, teacher_feature)`` returns (N, 1, H, W) weights."""

    @property
    def needs_queries(self) -> bool:
        """Whether the recipe must have a distillation head."""
        return False

    def background(self, step: Step, like: Tensor) -> Tensor | None:
        """Weights (N, 1, H, W) in [0, 1] of what lies outside, or None for 1 everywhere.

        Args:
            step: the present step.
            like: (N, C, H, W), the teacher's feature.
        """
        return None


def join_boxes(boxes: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """Put the boxes of all samples in one tensor.

    Args:
        boxes: B box objects of mmdet3d, or tensors (n_i, 7+) of gravity-centre boxes.
        device: where the result lives.

    Returns:
        (M, 7) gravity-centre boxes ``(x, y, z, l, w, h, yaw)`` in metres, and (M,) their sample index.

    Raises:
        DistillError: a box holds a number that is not finite.
    """
    tensors = [
        item[:, :7]
        if isinstance(item, Tensor)
        else torch.cat([item.gravity_center, item.tensor[:, 3:7]], dim=1)
        for item in boxes
    ]
    tensors = [item.to(device=device, dtype=torch.float32) for item in tensors]
    counts = torch.tensor([len(item) for item in tensors], device=device)
    joined = torch.cat(tensors) if tensors else torch.zeros(0, 7, device=device)
    if not joined.isfinite().all():
        raise DistillError('a ground-truth box holds a number that is not finite: look at the annotations')
    return joined, torch.repeat_interleave(torch.arange(len(tensors), device=device), counts)


def join_labels(labels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Put the labels of all samples, B of (n_i,), in one of (M,), in the order of :func:`join_boxes`."""
    none = torch.zeros(0, dtype=torch.long, device=device)
    return torch.cat([none, *(item.to(device) for item in labels)])


def pc_range_of(img_metas: Sequence[Any]) -> list[float]:
    """The range ``[x0, y0, z0, x1, y1, z1]`` in metres that all samples of a batch share."""
    ranges = []
    for meta in present_metas(img_metas):
        if 'pc_range' not in meta:
            raise DistillError("img_metas carry no 'pc_range'; let the pipeline's FormatFrame write it")
        ranges.append([float(value) for value in meta['pc_range']])
    if any(other != ranges[0] for other in ranges):
        raise DistillError(f'the samples of one batch have different pc_range: {ranges}')
    return ranges[0]


def cells_between(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """List all cells of many rectangles of a grid, as many as there are and no more.

    Args:
        low: (K, 2) first column and row.
        high: (K, 2) last column and row; a rectangle that ends before it begins has no cells.

    Returns:
        (P,) index of the rectangle and (P, 2) column and row, P being the sum of the areas.

    Example:
        >>> index, cells = cells_between(torch.tensor([[0, 0], [5, 5]]), torch.tensor([[1, 0], [5, 5]]))
        >>> index.tolist(), cells.tolist()
        ([0, 0, 1], [[0, 0], [1, 0], [5, 5]])
    """
    width, height = (high - low + 1).clamp(min=0).long().unbind(-1)
    area = width * height
    index = torch.repeat_interleave(torch.arange(len(area), device=area.device), area)
    number = torch.arange(len(index), device=area.device) - (area.cumsum(0) - area)[index]
    offset = torch.stack([number % width[index], number // width[index]], dim=-1)
    return index, low[index] + offset

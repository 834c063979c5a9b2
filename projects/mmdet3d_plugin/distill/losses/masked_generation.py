"""Masked feature generation (MGD, ECCV 2022), inside regions: what FD3D calls generative distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape, share_of_area
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2


class Generator(nn.Sequential):
    """conv3x3, ReLU, conv3x3 (MGD, ECCV 2022, figure 2).

    Args:
        channels: C, the same before, between and after.
        residual: add the result to what goes in, and start with adding nothing: a student whose own feature is read by
            an inherited head is then taught to be alike itself, and only what was dropped must be made up.
    """

    def __init__(self, channels: int, residual: bool = False) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.residual = residual
        if residual:
            nn.init.zeros_(self[2].weight)
            nn.init.zeros_(self[2].bias)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        made = super().forward(feature)
        return feature + made if self.residual else made

    def inside(self, feature: Tensor, mask: Tensor) -> Tensor:
        """What :meth:`forward` gives at some cells, computed from the cells that they depend on.

        Both convolutions become one matrix product over gathered 3x3 neighbourhoods, so the work is in proportion to
        the cells and not to the map.

        Args:
            feature: (N, C, H, W).
            mask: (N, H, W), bool, the wanted cells.

        Returns:
            (K, C), in the order of ``mask.nonzero()``.
        """
        first, _, second = self
        hidden = _dilate(mask)
        source = _dilate(hidden)
        rows = feature.permute(0, 2, 3, 1)[source]
        rows = F.relu(_convolve(rows, _neighbours(hidden, source), first))
        made = _convolve(rows, _neighbours(mask, hidden), second)
        return feature.permute(0, 2, 3, 1)[mask] + made if self.residual else made


def _dilate(mask: Tensor) -> Tensor:
    """Add the eight neighbours of every set cell: (N, H, W) bool -> (N, H, W) bool."""
    return F.max_pool2d(mask.float(), 3, stride=1, padding=1) > 0


def _neighbours(wanted: Tensor, known: Tensor) -> Tensor:
    """Where to find the 3x3 neighbourhoods of some cells among the rows of other cells.

    Args:
        wanted: (N, H, W), bool, K cells.
        known: (N, H, W), bool, R cells, among them all neighbours of ``wanted`` that lie on the map.

    Returns:
        (K, 9) row numbers; R for a neighbour outside the map.
    """
    count = int(known.sum())
    row = torch.full_like(known, count, dtype=torch.long)
    row[known] = torch.arange(count, device=known.device)
    row = F.pad(row, (1, 1, 1, 1), value=count)
    n, y, x = wanted.nonzero().unbind(1)
    return torch.stack([row[n, y + dy, x + dx] for dy in range(3) for dx in range(3)], dim=1)


def _convolve(rows: Tensor, neighbours: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 3x3 convolution of gathered cells: rows (R, C), neighbours (K, 9) -> (K, C)."""
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    patches = F.embedding(neighbours, padded).flatten(1)
    return F.linear(patches, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)


SPARSE_BELOW = 0.3
"""Share of compared cells below which gathering them is faster than convolving the whole map."""


@LOSSES.register_module()
class MaskedGeneration(DistillLoss):
    """Drop some of the student's cells inside the region and generate the teacher's feature from what is left.

    The generator is trained along and saved under ``distill.<term>.loss.generator``. The loss is a mean over channels,
    normalised by area per sample, so its weight carries over between resolutions. It generates only the cells that
    are compared, here or by the terms that read its result.

    Args:
        channels: C of both features, after the connector.
        ratio: share of the region's cells that are dropped (lambda of the paper).
        background: weight of cells outside the region, which are never dropped; a region with a gate scales it by
            the teacher's confidence that there is nothing.
        relative: divide by the teacher's mean square over the same cells: generating zeros then costs 1, and the weight
            carries over between features of any scale, such as image features without a norm.
        residual: of the :class:`Generator`; with a connector that learns nothing, such as ``'resize'``.
        name: of the term; later terms find the generated feature under it.
    """

    generates = True

    def __init__(
        self,
        channels: int,
        ratio: float = 0.65,
        background: float = 0.0,
        relative: bool = False,
        residual: bool = False,
        name: str = 'masked_generation',
    ) -> None:
        super().__init__()
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio must lie between 0 and 1, got {ratio}')
        if background < 0:
            raise ValueError(f'background must be >= 0, got {background}')
        self.ratio, self.background, self.relative, self.name = ratio, background, relative, name
        self.generator = Generator(channels, residual)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        region: Tensor | None = None,
        *,
        background: Tensor | None = None,
        step: Step | None = None,
    ) -> Tensor:
        """Distance between the generated and the teacher's feature.

        Args:
            student: (N, C, H, W), after the connector.
            teacher: (N, C, H, W), constant.
            region: (N, 1, H, W) weights >= 0, or None for everywhere.
            background: (N, 1, H, W) factors of the background's weight, or None for 1.
            step: where the generated feature (N, C, H, W) is left if other terms read it; what they do not read is 0.

        Returns:
            Scalar.
        """
        check_same_shape(student, teacher)
        teacher = teacher.detach()
        if region is None:
            region = torch.ones_like(student[:, :1])
        outside = self.background * (torch.ones_like(region) if background is None else background)
        share = share_of_area(torch.where(region > 0, region, outside).to(student.dtype))
        if self.relative:
            total = share.sum(dim=(1, 2, 3), keepdim=True)
            square = (teacher.square().mean(1, keepdim=True) * share).sum(dim=(1, 2, 3), keepdim=True)
            share = share / torch.where(square > 0, square / total, torch.ones_like(square))
        visible = self.drop(student, region)
        if step is None or not self.consumers:
            return self._compare(visible, teacher, share)
        wanted = share[:, 0] > 0
        for consumer in self.consumers:
            wanted = wanted | consumer.cells_needed(step, teacher)
        step.generated[self.name] = self._generate(visible, wanted)
        return masked_l2(step.generated[self.name], teacher, share / max(teacher.shape[1], 1))

    def _compare(self, visible: Tensor, teacher: Tensor, share: Tensor) -> Tensor:
        """Generate and compare, cell by cell where that is less work than the whole map."""
        mask = share[:, 0] > 0
        if _is_much(mask):
            return masked_l2(self.generator(visible), teacher, share / max(teacher.shape[1], 1))
        gap = self.generator.inside(visible, mask) - teacher.permute(0, 2, 3, 1)[mask]
        return (gap.square().mean(1) * share[:, 0][mask]).sum()

    def _generate(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Generate the cells of a mask (N, H, W) and put them on a map (N, C, H, W) of zeros."""
        if _is_much(mask):
            return self.generator(visible)
        n, c, h, w = visible.shape
        cells = visible.new_zeros(n, h, w, c)
        cells[mask] = self.generator.inside(visible, mask)
        return cells.permute(0, 3, 1, 2)

    def drop(self, student: Tensor, region: Tensor) -> Tensor:
        """Zero a random ``ratio`` of the region's cells in all channels.

        Args:
            student: (N, C, H, W).
            region: (N, 1, H, W).

        Returns:
            (N, C, H, W).
        """
        dropped = (torch.rand(region.shape, device=region.device) < self.ratio) & (region > 0)
        return student.masked_fill(dropped, 0.0)


def _is_much(mask: Tensor) -> bool:
    """Whether so many cells of (N, H, W) are wanted that the whole map is less work; also where there are none at all."""
    return mask.numel() == 0 or bool(mask.float().mean() >= SPARSE_BELOW)

"""The generator of masked feature generation, on whole maps or only where its result is compared."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

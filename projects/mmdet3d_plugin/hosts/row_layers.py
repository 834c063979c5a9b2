"""Linear layers on rows, of which there may be any number: one, or none."""

import itertools
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError

_FEW = 2  # rows that batch statistics need


class RowBatchNorm(nn.BatchNorm1d):
    """Batch norm of rows (N, C); where they are too few for statistics of their own, by the running ones."""

    def forward(self, rows: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        if len(rows) >= _FEW:
            return super().forward(rows)
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


Norm = str | Callable[[int], nn.Module]
"""Name of a norm, see :func:`norm_of`, or what makes one for a number of channels, such as :class:`RowBatchNorm`."""


def norm_of(kind: Norm, width: int) -> nn.Module:
    """A norm of rows (N, width).

    Args:
        kind: 'layer', which needs no other rows, 'batch', as published second stages have it, or what makes a norm.
        width: numbers per row.

    Raises:
        UserError: another kind.
    """
    if callable(kind):
        return kind(width)
    if kind == 'layer':
        return nn.LayerNorm(width)
    if kind == 'batch':
        return RowBatchNorm(width, eps=1e-3, momentum=0.01)
    raise UserError(f"the norm of a second stage is 'layer' or 'batch', got {kind!r}")


def row_layers(widths: Sequence[int], norm: Norm, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers, each with a norm and a ReLU: rows (N, widths[0]) -> (N, widths[-1]).

    Args:
        widths: numbers per row before, between and after the layers.
        norm: see :func:`norm_of`.
        dropout: share of numbers that are dropped between two layers in training.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        if layers and dropout:
            layers.append(nn.Dropout(dropout))
        layers += [nn.Linear(before, after, bias=False), norm_of(norm, after), nn.ReLU()]
    return nn.Sequential(*layers)

"""What the layers of encoder and decoder share: the feed-forward network, and the initial values of attention."""

import math

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.ops.linear import Linear


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, and the residual; weights are named as in mmcv's ``FFN``.

    Args:
        embed_dims: C.
        hidden_dims: width between the two.
        dropout: after either.

    Example:
        >>> import torch
        >>> FeedForward(8, 16, dropout=0.0)(torch.zeros(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, embed_dims: int, hidden_dims: int, dropout: float) -> None:
        super().__init__()
        hidden = nn.Sequential(Linear(embed_dims, hidden_dims), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.layers = nn.Sequential(hidden, Linear(hidden_dims, embed_dims), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return x + self.layers(x)


def init_deformable(
    sampling_offsets: nn.Linear, attention_weights: nn.Linear, num_heads: int, repeats: int, num_points: int
) -> None:
    """Point each head in its own direction, farther with each point, and attend evenly.

    Args:
        sampling_offsets: projection to ``num_heads * repeats * num_points * 2`` offsets.
        attention_weights: projection to ``num_heads * repeats * num_points`` logits.
        num_heads: M.
        repeats: number of maps that share the pattern: levels, times frames in temporal attention.
        num_points: P.
    """
    theta = torch.arange(num_heads, dtype=torch.float32) * (2 * math.pi / num_heads)
    direction = torch.stack([theta.cos(), theta.sin()], dim=-1)
    direction = direction / direction.abs().max(-1, keepdim=True).values
    step = torch.arange(1, num_points + 1, dtype=torch.float32)[:, None]
    bias = (direction[:, None, None] * step).expand(-1, repeats, -1, -1)
    nn.init.zeros_(sampling_offsets.weight)
    with torch.no_grad():
        sampling_offsets.bias.copy_(bias.reshape(-1))
    nn.init.zeros_(attention_weights.weight)
    nn.init.zeros_(attention_weights.bias)


def init_projection(*layers: nn.Linear) -> None:
    """Xavier weights and zero bias for value and output projections."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)

"""What transformer layers share: self-attention of queries, feed-forward network, box refinement, and initial values."""

import math

import torch
from mmdet.models.utils.transformer import inverse_sigmoid
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.precision import at_least_float32
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


class QuerySelfAttention(nn.Module):
    """Object queries attend to one another.

    Args:
        embed_dims: C.
        num_heads: M.
        dropout: on the attention weights and on the output.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        """(B, Q, C) queries and positions -> (B, Q, C), with the residual added."""
        with_pos = query + query_pos
        out, _ = self.attn(with_pos, with_pos, query, need_weights=False)
        return query + self.dropout(out)


def refined(reference: Tensor, code: Tensor) -> Tensor:
    """Box refinement (Deformable DETR, section 4): each decoder layer moves the reference points of the next.

    Args:
        reference: (B, Q, 3) in [0, 1].
        code: (B, Q, 10), whose centres move them.

    Returns:
        (B, Q, 3), constants.

    Example:
        >>> refined(torch.full((1, 1, 3), 0.5), torch.zeros(1, 1, 10))
        tensor([[[0.5000, 0.5000, 0.5000]]])
    """
    code = at_least_float32(code)
    moved = torch.cat([code[..., :2], code[..., 4:5]], dim=-1) + inverse_sigmoid(reference)
    return moved.sigmoid().detach()

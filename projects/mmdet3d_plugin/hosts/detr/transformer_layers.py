"""What decoders of object queries share: their layer and its parts, box refinement, and initial values."""

import math
from collections.abc import Callable, Iterable
from typing import Any

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


class DecoderLayer(nn.Module):
    """Self-attention, a host's cross-attention and a feed-forward network, each followed by a norm.

    Args:
        cross_attention: makes the cross-attention, whose first arguments are queries and positions, (B, Q, C) each.
        embed_dims: C.
        num_heads: M, of self-attention.
        feedforward_dims: hidden width of the feed-forward network.
        dropout: of self-attention and the feed-forward network.
    """

    def __init__(
        self,
        cross_attention: Callable[[], nn.Module],
        embed_dims: int,
        num_heads: int,
        feedforward_dims: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self_attention = QuerySelfAttention(embed_dims, num_heads, dropout)
        self.attentions = nn.ModuleList([self_attention, cross_attention()])
        self.ffns = nn.ModuleList([FeedForward(embed_dims, feedforward_dims, dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))

    def forward(self, query: Tensor, query_pos: Tensor, *seen: Any) -> Tensor:
        """(B, Q, C) queries and positions -> (B, Q, C); ``seen`` is what cross-attention looks at, and where from."""
        query = self.norms[0](self.attentions[0](query, query_pos))
        query = self.norms[1](self.attentions[1](query, query_pos, *seen))
        return self.norms[2](self.ffns[0](query))


def refine_queries(
    layers: Iterable[nn.Module],
    reg_branches: Iterable[nn.Module],
    query: Tensor,
    reference: Tensor,
    run: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Refine object queries layer by layer; after each one its regression branch moves the reference points.

    Args:
        layers: of the decoder.
        reg_branches: one per layer, (B, Q, C) -> (B, Q, 10).
        query: (B, Q, C).
        reference: (B, Q, 3), (x, y, z) in [0, 1] of the point cloud range.
        run: runs a layer on queries and reference points.

    Returns:
        (num_layers, B, Q, C) queries after each layer, and (num_layers, B, Q, 3) reference points that each layer
        started from.
    """
    queries, references = [], []
    for layer, reg_branch in zip(layers, reg_branches, strict=True):
        references.append(reference)
        query = run(layer, query, reference)
        queries.append(query)
        reference = refined(reference, reg_branch(query))
    return torch.stack(queries), torch.stack(references)


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

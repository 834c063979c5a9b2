"""Initial values of the query projections of deformable attention (Deformable DETR, appendix A.4)."""

import math

import torch
from torch import nn


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

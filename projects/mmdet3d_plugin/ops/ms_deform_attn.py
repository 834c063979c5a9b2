"""Multi-scale deformable attention (Deformable DETR, ICLR 2021, equation 3): the one Python door."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = Sequence[tuple[int, int]]


def ms_deform_attn(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sample the value maps at given locations and sum them by attention weight.

    Args:
        value: (B, S, M, D), the L maps flattened row by row and concatenated, ``S = sum(h * w)``.
        spatial_shapes: L pairs ``(h, w)`` of Python ints.
        sampling_locations: (B, Q, M, L, P, 2), (x, y) in units of map width and height.
        attention_weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * D).
    """
    b, _, m, d = value.shape
    _, q, _, _, p, _ = sampling_locations.shape
    maps = value.split([h * w for h, w in spatial_shapes], dim=1)
    grid = 2 * sampling_locations - 1
    out = value.new_zeros(b * m, d, q)
    for level, (h, w) in enumerate(spatial_shapes):
        plane = maps[level].permute(0, 2, 3, 1).reshape(b * m, d, h, w)
        points = grid[:, :, :, level].transpose(1, 2).reshape(b * m, q, p, 2)
        sampled = F.grid_sample(plane, points, mode='bilinear', padding_mode='zeros', align_corners=False)
        weight = attention_weights[:, :, :, level].transpose(1, 2).reshape(b * m, 1, q, p)
        out = out + (sampled * weight).sum(-1)
    return out.view(b, m * d, q).transpose(1, 2).contiguous()


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Shapes,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
) -> Tensor:
    """Deformable attention from the raw outputs of the two query projections.

    Args:
        value: (B, S, M, D).
        spatial_shapes: L pairs ``(h, w)`` of Python ints.
        sampling_offsets: (B, Q, M, L, P, 2), in cells of each level.
        attention_logits: (B, Q, M, L * P), before the softmax over L * P.
        reference_points: (B, Q, R, 2), (x, y) in [0, 1]; point ``p`` starts from reference ``p % R``.

    Returns:
        (B, Q, M * D).
    """
    b, q, m, levels, p, _ = sampling_offsets.shape
    weights = attention_logits.softmax(-1).view(b, q, m, levels, p)
    size = sampling_offsets.new_tensor([(w, h) for h, w in spatial_shapes])
    anchor = reference_points[:, :, torch.arange(p, device=value.device) % reference_points.shape[2]]
    locations = anchor[:, :, None, None] + sampling_offsets / size[:, None]
    return ms_deform_attn(value, spatial_shapes, locations, weights)

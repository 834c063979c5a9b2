"""Multi-scale deformable attention in plain torch: the reference, and what serves where nothing is compiled."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.common.group_ranks import group_ranks

Shapes = Sequence[tuple[int, int]]


def ms_deform_attn_torch(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """See ``ms_deform_attn``; a grid_sample for every level, summed by attention weight."""
    b, _, m, d = value.shape
    _, q, _, _, p, _ = sampling_locations.shape
    maps = value.split([h * w for h, w in spatial_shapes], dim=1)
    grid = 2 * sampling_locations.to(value.dtype) - 1
    out = value.new_zeros(b * m, d, q)
    for level, (h, w) in enumerate(spatial_shapes):
        plane = maps[level].permute(0, 2, 3, 1).reshape(b * m, d, h, w)
        points = grid[:, :, :, level].transpose(1, 2).reshape(b * m, q, p, 2)
        sampled = F.grid_sample(plane, points, mode='bilinear', padding_mode='zeros', align_corners=False)
        weight = attention_weights[:, :, :, level].transpose(1, 2).reshape(b * m, 1, q, p)
        out = out + (sampled * weight.to(value.dtype)).sum(-1)
    return out.view(b, m * d, q).transpose(1, 2).contiguous()


def ms_deform_attn_fused_torch(
    value: Tensor,
    spatial_shapes: Shapes,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
) -> Tensor:
    """See ``ms_deform_attn_fused``; softmax (B, Q, M, L, P) and locations (B, Q, M, L, P, 2) are made whole."""
    locations = sampling_locations(spatial_shapes, sampling_offsets, reference_points)
    weights = attention_logits.softmax(-1).view(sampling_offsets.shape[:-1])
    return ms_deform_attn_torch(value, spatial_shapes, locations, weights)


def ms_deform_attn_packed_torch(
    value: Tensor,
    spatial_shapes: Shapes,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
    pair_value: Tensor,
    pair_query: Tensor,
) -> Tensor:
    """See ``ms_deform_attn_packed``; rows are padded to the map with the most pairs, as upstream does."""
    b, q, m, levels, p, _ = sampling_offsets.shape
    offsets, logits = sampling_offsets.flatten(0, 1), attention_logits.flatten(0, 1)
    slot, count = group_ranks(pair_value, len(value))
    most = int(count.max()) if len(pair_value) else 0
    shape = (len(value), most)
    padded_offsets = offsets.new_zeros(*shape, m, levels, p, 2).index_put(
        (pair_value, slot), offsets[pair_query]
    )
    padded_logits = logits.new_zeros(*shape, m, levels * p).index_put((pair_value, slot), logits[pair_query])
    anchors = reference_points.new_zeros(*shape, reference_points.shape[1], 2)
    anchors = anchors.index_put((pair_value, slot), reference_points)
    rows = ms_deform_attn_fused_torch(value, spatial_shapes, padded_offsets, padded_logits, anchors)
    out = rows.new_zeros(b * q, rows.shape[-1])
    return out.index_add(0, pair_query, rows[pair_value, slot]).view(b, q, -1)


def sampling_locations(spatial_shapes: Shapes, sampling_offsets: Tensor, reference_points: Tensor) -> Tensor:
    """Locations in map units from offsets in cells: point ``p`` starts from reference ``p % R``.

    Args:
        spatial_shapes: L pairs ``(h, w)``.
        sampling_offsets: (B, Q, M, L, P, 2), in cells of each level.
        reference_points: (B, Q, R, 2), (x, y) in [0, 1].

    Returns:
        (B, Q, M, L, P, 2), (x, y) in units of map width and height.

    Example:
        >>> offsets = torch.ones(1, 1, 1, 1, 1, 2)  # one cell to the right and one down
        >>> sampling_locations([(2, 4)], offsets, torch.zeros(1, 1, 1, 2)).flatten()
        tensor([0.2500, 0.5000])
    """
    size = sampling_offsets.new_tensor([(w, h) for h, w in spatial_shapes])
    turn = torch.arange(sampling_offsets.shape[4], device=sampling_offsets.device) % reference_points.shape[2]
    return reference_points[:, :, turn][:, :, None, None] + sampling_offsets / size[:, None]

"""Temporal self-attention (BEVFormer, section 3.4, equation 4)."""

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.deformable_init import init_deformable, init_projection
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn_fused

NUM_FRAMES = 2


class TemporalSelfAttention(nn.Module):
    """Every BEV query looks at the previous BEV feature, aligned to the ego motion, and at the present one.

    Args:
        embed_dims: C, channels of a query.
        num_heads: M.
        num_points: P, sampled points per head and frame.
        dropout: on the output, before the residual sum.
    """

    def __init__(
        self, embed_dims: int = 256, num_heads: int = 8, num_points: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.num_heads, self.num_points = num_heads, num_points
        points = NUM_FRAMES * num_heads * num_points
        self.sampling_offsets = Linear(embed_dims * NUM_FRAMES, points * 2)
        self.attention_weights = Linear(embed_dims * NUM_FRAMES, points)
        self.value_proj = Linear(embed_dims, embed_dims)
        self.output_proj = Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        """Reset to the initial values of Deformable DETR."""
        init_deformable(
            self.sampling_offsets, self.attention_weights, self.num_heads, NUM_FRAMES, self.num_points
        )
        init_projection(self.value_proj, self.output_proj)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        maps: Tensor,
        reference_points: Tensor,
        bev_shape: tuple[int, int],
    ) -> Tensor:
        """Attend to two BEV features.

        Args:
            query: (B, Q, C), Q = H * W.
            query_pos: (B, Q, C).
            maps: (B, 2, Q, C), the previous BEV feature, or the query where a sample has none, and the present one.
            reference_points: (B, 2, Q, 2), (x, y) in [0, 1] on the previous and the present map.
            bev_shape: (H, W).

        Returns:
            (B, Q, C), with the residual added.
        """
        b, q, c = query.shape
        m, p = self.num_heads, self.num_points
        both = torch.cat([maps[:, 0], query + query_pos], dim=-1)
        value = self.value_proj(maps.flatten(0, 1))
        offsets = self.sampling_offsets(both).view(b, q, m, NUM_FRAMES, p, 2)
        logits = self.attention_weights(both).view(b, q, m, NUM_FRAMES, p)
        out = ms_deform_attn_fused(
            value.view(b * NUM_FRAMES, q, m, c // m),
            [bev_shape],
            offsets.permute(0, 3, 1, 2, 4, 5).reshape(b * NUM_FRAMES, q, m, 1, p, 2),
            logits.permute(0, 3, 1, 2, 4).reshape(b * NUM_FRAMES, q, m, p),
            reference_points.reshape(b * NUM_FRAMES, q, 1, 2),
        )
        out = out.view(b, NUM_FRAMES, q, c).mean(1)
        return query + self.dropout(self.output_proj(out))

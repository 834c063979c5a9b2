"""The DETR decoder with box refinement that reads boxes off the BEV feature (BEVFormer, section 3.5)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.detr.transformer_layers import (
    DecoderLayer,
    init_deformable,
    init_projection,
    refine_queries,
)
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn_fused


class BEVCrossAttention(nn.Module):
    """Object queries sample the BEV feature around their reference points.

    Args:
        embed_dims: C.
        num_heads: M.
        num_points: P.
        dropout: on the output.
    """

    def __init__(self, embed_dims: int, num_heads: int, num_points: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.num_points = num_heads, num_points
        self.sampling_offsets = Linear(embed_dims, num_heads * num_points * 2)
        self.attention_weights = Linear(embed_dims, num_heads * num_points)
        self.value_proj = Linear(embed_dims, embed_dims)
        self.output_proj = Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        """Reset to the initial values of Deformable DETR."""
        init_deformable(self.sampling_offsets, self.attention_weights, self.num_heads, 1, self.num_points)
        init_projection(self.value_proj, self.output_proj)

    def forward(
        self, query: Tensor, query_pos: Tensor, bev: Tensor, reference: Tensor, bev_shape: tuple[int, int]
    ) -> Tensor:
        """Look at the BEV map.

        Args:
            query: (B, Q, C).
            query_pos: (B, Q, C).
            bev: (B, H * W, C).
            reference: (B, Q, 2), (x, y) in [0, 1].
            bev_shape: (H, W).

        Returns:
            (B, Q, C), with the residual added.
        """
        b, q, c = query.shape
        m, p = self.num_heads, self.num_points
        with_pos = query + query_pos
        out = ms_deform_attn_fused(
            self.value_proj(bev).view(b, -1, m, c // m),
            [bev_shape],
            self.sampling_offsets(with_pos).view(b, q, m, 1, p, 2),
            self.attention_weights(with_pos).view(b, q, m, p),
            reference[:, :, None],
        )
        return query + self.dropout(self.output_proj(out))


class DetectionDecoder(nn.Module):
    """A stack of decoder layers; after each one its regression branch moves the reference points.

    Args:
        embed_dims: C.
        num_layers: number of :class:`DecoderLayer`.
        num_heads: M.
        num_points: P, sampled points per head on the BEV map.
        feedforward_dims: hidden width of the feed-forward network.
        dropout: of all parts.
    """

    def __init__(
        self,
        embed_dims: int,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        feedforward_dims: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        look = partial(BEVCrossAttention, embed_dims, num_heads, num_points, dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(look, embed_dims, num_heads, feedforward_dims, dropout) for _ in range(num_layers)
        )

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        bev: Tensor,
        reference: Tensor,
        bev_shape: tuple[int, int],
        reg_branches: Sequence[nn.Module],
    ) -> tuple[Tensor, Tensor]:
        """Refine object queries layer by layer.

        Args:
            query: (B, Q, C).
            query_pos: (B, Q, C).
            bev: (B, H * W, C).
            reference: (B, Q, 3), (x, y, z) in [0, 1] of the point cloud range.
            bev_shape: (H, W).
            reg_branches: one per layer, (B, Q, C) -> (B, Q, 10).

        Returns:
            (num_layers, B, Q, C) queries after each layer, and (num_layers, B, Q, 3) reference points that each
            layer started from.
        """

        def run(layer: nn.Module, query: Tensor, reference: Tensor) -> Tensor:
            return layer(query, query_pos, bev, reference[..., :2], bev_shape)

        return refine_queries(self.layers, reg_branches, query, reference, run)

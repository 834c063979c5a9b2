"""Spatial cross-attention (BEVFormer, section 3.3, equation 3)."""

from collections.abc import Sequence

from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.deformable_init import init_deformable, init_projection
from projects.mmdet3d_plugin.hosts.bevformer.reference_points import VisiblePairs
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn_packed


class CameraDeformableAttention(nn.Module):
    """The projections of deformable attention on camera features (``MSDeformableAttention3D`` in BEVFormer).

    Args:
        embed_dims: C.
        num_heads: M.
        num_levels: L, feature levels per camera.
        num_points: P per head and level, shared out evenly among the anchors of a pillar.
    """

    def __init__(
        self, embed_dims: int = 256, num_heads: int = 8, num_levels: int = 4, num_points: int = 8
    ) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        points = num_heads * num_levels * num_points
        self.sampling_offsets = Linear(embed_dims, points * 2)
        self.attention_weights = Linear(embed_dims, points)
        self.value_proj = Linear(embed_dims, embed_dims)

    def init_weights(self) -> None:
        """Reset to the initial values of Deformable DETR."""
        init_deformable(
            self.sampling_offsets, self.attention_weights, self.num_heads, self.num_levels, self.num_points
        )
        init_projection(self.value_proj)

    def forward(
        self, query: Tensor, value: Tensor, spatial_shapes: Sequence[tuple[int, int]], pairs: VisiblePairs
    ) -> Tensor:
        """Sum what the cameras show at each query's pillar.

        Args:
            query: (B, Q, C).
            value: (B * num_cams, S, C), all levels of each camera.
            spatial_shapes: L pairs ``(h, w)``.
            pairs: the (camera, query) pairs that see each other.

        Returns:
            (B, Q, C), the sum over cameras.
        """
        b, q, c = query.shape
        m, levels, p = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(value).view(value.shape[0], -1, m, c // m)
        return ms_deform_attn_packed(
            value,
            spatial_shapes,
            self.sampling_offsets(query).view(b, q, m, levels, p, 2),
            self.attention_weights(query).view(b, q, m, levels * p),
            pairs.points,
            pairs.value_index,
            pairs.query_index,
        )


class SpatialCrossAttention(nn.Module):
    """Every BEV query gathers image features where its pillar of points falls on the cameras.

    Args:
        embed_dims: C.
        dropout: on the output, before the residual sum.
        deformable: further arguments of :class:`CameraDeformableAttention`.
    """

    def __init__(self, embed_dims: int = 256, dropout: float = 0.1, **deformable: int) -> None:
        super().__init__()
        self.deformable_attention = CameraDeformableAttention(embed_dims, **deformable)
        self.output_proj = Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        """Reset to the initial values of Deformable DETR."""
        self.deformable_attention.init_weights()
        init_projection(self.output_proj)

    def forward(
        self, query: Tensor, value: Tensor, spatial_shapes: Sequence[tuple[int, int]], pairs: VisiblePairs
    ) -> Tensor:
        """Average what the cameras show; arguments as in :class:`CameraDeformableAttention`.

        Returns:
            (B, Q, C), with the residual added.
        """
        seen = self.deformable_attention(query, value, spatial_shapes, pairs)
        return query + self.dropout(self.output_proj(seen / pairs.count))

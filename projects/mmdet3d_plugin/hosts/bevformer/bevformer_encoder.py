"""The BEV encoder (BEVFormer, section 3.1): temporal self-attention and spatial cross-attention, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import (
    AllPairs,
    VisiblePairs,
    all_pairs,
    pillar_points,
    plane_points,
    visible_pairs,
)
from projects.mmdet3d_plugin.hosts.detr.transformer_layers import (
    FeedForward,
    init_deformable,
    init_projection,
)
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn_fused, ms_deform_attn_packed

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
        self,
        query: Tensor,
        value: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        pairs: VisiblePairs | AllPairs,
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
        offsets = self.sampling_offsets(query).view(b, q, m, levels, p, 2)
        logits = self.attention_weights(query).view(b, q, m, levels * p)
        if isinstance(pairs, AllPairs):
            num_cams = len(value) // b
            offsets, logits = (x.repeat_interleave(num_cams, dim=0) for x in (offsets, logits))
            seen = ms_deform_attn_fused(value, spatial_shapes, offsets, logits, pairs.points)
            return seen.view(b, num_cams, q, c).sum(1)
        return ms_deform_attn_packed(
            value,
            spatial_shapes,
            offsets,
            logits,
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
        self,
        query: Tensor,
        value: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        pairs: VisiblePairs | AllPairs,
    ) -> Tensor:
        """Average what the cameras show; arguments as in :class:`CameraDeformableAttention`.

        Returns:
            (B, Q, C), with the residual added.
        """
        seen = self.deformable_attention(query, value, spatial_shapes, pairs)
        return query + self.dropout(self.output_proj(seen / pairs.count))


@dataclass
class PreviousBEV:
    """The BEV feature of the previous frame, already turned into the present ego heading.

    Attributes:
        bev: (B, H * W, C).
        exists: (B,), bool, False where a sample has no previous frame.
        shift: (B, 2), ego translation (x, y) as a fraction of the map.
        everywhere: every sample has a previous frame, as far as is known without waiting for a device.
    """

    bev: Tensor
    exists: Tensor
    shift: Tensor
    everywhere: bool = False


@dataclass
class CameraFeatures:
    """Image features of one frame, as spatial cross-attention reads them.

    Attributes:
        value: (B * num_cams, S, C), all levels flattened and concatenated.
        spatial_shapes: L pairs ``(h, w)``.
        lidar2img: (B, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded image.
        img_shape: (B, num_cams, 2), (width, height) of the padded images.
    """

    value: Tensor
    spatial_shapes: Sequence[tuple[int, int]]
    lidar2img: Tensor
    img_shape: Tensor


class BEVFormerLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention and a feed-forward network, each followed by a norm.

    Args:
        embed_dims: C.
        num_heads: M, of both attentions.
        num_levels: L, feature levels per camera.
        num_points: points per head and level on the cameras.
        temporal_points: points per head and frame on the BEV maps.
        feedforward_dims: hidden width of the feed-forward network.
        dropout: of all three parts.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        temporal_points: int,
        feedforward_dims: int,
        dropout: float,
    ) -> None:
        super().__init__()
        temporal = TemporalSelfAttention(embed_dims, num_heads, temporal_points, dropout)
        spatial = SpatialCrossAttention(
            embed_dims, dropout, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.attentions = nn.ModuleList([temporal, spatial])
        self.ffns = nn.ModuleList([FeedForward(embed_dims, feedforward_dims, dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        bev_pos: Tensor,
        maps: Tensor | None,
        exists: Tensor | None,
        plane: Tensor,
        bev_shape: tuple[int, int],
        cameras: CameraFeatures,
        pairs: VisiblePairs | AllPairs,
    ) -> Tensor:
        """Refine the BEV queries (B, Q, C) once.

        ``maps`` (B, 2, Q, C) are the previous BEV feature and what entered the first layer; the samples for which
        ``exists`` (B,) is False, or all if there are no maps, take the query in place of both.
        """
        if maps is None:
            maps = query[:, None].expand(-1, 2, -1, -1)
        elif exists is not None:
            maps = torch.where(exists[:, None, None, None], maps, query[:, None])
        query = self.attentions[0](query, bev_pos, maps, plane, bev_shape)
        query = self.norms[0](query)
        query = self.attentions[1](query, cameras.value, cameras.spatial_shapes, pairs)
        query = self.norms[1](query)
        return self.norms[2](self.ffns[0](query))


class BEVFormerEncoder(nn.Module):
    """Turn camera features and the previous BEV feature into the present BEV feature.

    Args:
        embed_dims: C.
        num_layers: number of :class:`BEVFormerLayer`.
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        num_points_in_pillar: D, anchors above each BEV cell.
        legacy_shift: shift the reference points of *both* BEV maps by the ego motion, not only those of the
            previous one. The published weights were trained so.
        with_cp: gradient checkpointing per layer.
        num_heads, num_levels, num_points, temporal_points, feedforward_dims, dropout: of each
            :class:`BEVFormerLayer`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_layers: int,
        pc_range: list[float],
        num_points_in_pillar: int = 4,
        legacy_shift: bool = False,
        with_cp: bool = False,
        *,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 8,
        temporal_points: int = 4,
        feedforward_dims: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if num_points % num_points_in_pillar:
            raise ValueError(
                f'BEVFormerEncoder: num_points={num_points} must be a multiple of '
                f'num_points_in_pillar={num_points_in_pillar}, since the points are shared out among the anchors.'
            )
        self.pc_range, self.num_points_in_pillar = pc_range, num_points_in_pillar
        self.legacy_shift, self.with_cp = legacy_shift, with_cp
        self.layers = nn.ModuleList(
            BEVFormerLayer(
                embed_dims, num_heads, num_levels, num_points, temporal_points, feedforward_dims, dropout
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        bev_query: Tensor,
        bev_pos: Tensor,
        bev_shape: tuple[int, int],
        cameras: CameraFeatures,
        previous: PreviousBEV | None = None,
    ) -> Tensor:
        """Encode one frame.

        Args:
            bev_query: (B, H * W, C).
            bev_pos: (B, H * W, C).
            bev_shape: (H, W).
            cameras: image features and calibration.
            previous: the previous BEV feature, if any sample has one.

        Returns:
            (B, H * W, C).
        """
        points = pillar_points(*bev_shape, self.num_points_in_pillar, self.pc_range, bev_query.device)
        find_pairs = all_pairs if torch.onnx.is_in_onnx_export() else visible_pairs
        pairs = find_pairs(points, cameras.lidar2img, cameras.img_shape)
        plane = self._plane_points(bev_query, bev_shape, previous)
        maps = None if previous is None else torch.stack([previous.bev, bev_query], dim=1)
        exists = None if previous is None or previous.everywhere else previous.exists
        query = bev_query
        for layer in self.layers:
            args = (query, bev_pos, maps, exists, plane, bev_shape, cameras, pairs)
            if self.with_cp and torch.is_grad_enabled():
                query = checkpoint(layer, *args, use_reentrant=False)
            else:
                query = layer(*args)
        return query

    def _plane_points(
        self, bev_query: Tensor, bev_shape: tuple[int, int], previous: PreviousBEV | None
    ) -> Tensor:
        """(B, 2, H * W, 2), reference points on the previous and on the present map."""
        b = len(bev_query)
        points = plane_points(*bev_shape, bev_query.device).expand(b, 2, -1, -1)
        if previous is None:
            return points
        shift = previous.shift * previous.exists[:, None]
        present_shift = shift if self.legacy_shift else torch.zeros_like(shift)
        return points + torch.stack([shift, present_shift], dim=1)[:, :, None]

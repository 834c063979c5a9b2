"""The DETR decoder with box refinement that looks at image features (DETR3D, section 3.2)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.detr.transformer_layers import DecoderLayer, refine_queries
from projects.mmdet3d_plugin.hosts.detr3d.camera_cross_attention import CameraCrossAttention, CameraViews


class DETR3DDecoder(nn.Module):
    """A stack of decoder layers; after each one its regression branch moves the reference points.

    Args:
        embed_dims: C.
        num_cams: cameras in the rig.
        num_levels: L, feature levels per camera.
        num_layers: number of :class:`DecoderLayer`.
        num_heads: M, of self-attention.
        feedforward_dims: hidden width of the feed-forward network.
        dropout: of all parts.
    """

    def __init__(
        self,
        embed_dims: int,
        num_cams: int,
        num_levels: int,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_dims: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        look = partial(CameraCrossAttention, embed_dims, num_cams, num_levels, dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(look, embed_dims, num_heads, feedforward_dims, dropout) for _ in range(num_layers)
        )

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        views: CameraViews,
        reference: Tensor,
        reg_branches: Sequence[nn.Module],
    ) -> tuple[Tensor, Tensor]:
        """Refine object queries layer by layer.

        Args:
            query: (B, Q, C).
            query_pos: (B, Q, C).
            views: features and geometry of the cameras.
            reference: (B, Q, 3), (x, y, z) in [0, 1] of the point cloud range.
            reg_branches: one per layer, (B, Q, C) -> (B, Q, 10).

        Returns:
            (num_layers, B, Q, C) queries after each layer, and (num_layers, B, Q, 3) reference points that each
            layer started from.
        """

        def run(layer: nn.Module, query: Tensor, reference: Tensor) -> Tensor:
            return layer(query, query_pos, views, reference)

        return refine_queries(self.layers, reg_branches, query, reference, run)

"""The transformer of DETR3D, a decoder alone: reference points, and layers that look at the images there."""

from collections.abc import Sequence
from typing import Any, ClassVar

from mmdet.models.utils.builder import TRANSFORMER
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.precision import at_least_float32
from projects.mmdet3d_plugin.hosts.detr.cameras import camera_geometry, filled_share
from projects.mmdet3d_plugin.hosts.detr3d.camera_cross_attention import CameraCrossAttention, CameraViews
from projects.mmdet3d_plugin.hosts.detr3d.detr3d_decoder import DETR3DDecoder
from projects.mmdet3d_plugin.ops.gather_maps import FeatureMaps
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.ops.pages import kept_pages


@TRANSFORMER.register_module()
class DETR3DTransformer(nn.Module):
    """Object queries of a rig of cameras (DETR3D, figure 2).

    Args:
        embed_dims: C.
        num_cams: cameras in the rig, in the order of the dataset.
        num_levels: L, feature levels per camera.
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        decoder: further arguments of :class:`DETR3DDecoder`.
        valid_shape: a point that falls into the padding of an image is not seen. As published, padding counts as image.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'decoder': DETR3DDecoder}

    def __init__(
        self,
        embed_dims: int,
        num_cams: int,
        num_levels: int,
        pc_range: list[float],
        decoder: dict[str, Any],
        valid_shape: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dims, self.num_cams, self.num_levels = embed_dims, num_cams, num_levels
        self.pc_range, self.valid_shape = pc_range, valid_shape
        self.decoder = DETR3DDecoder(embed_dims, num_cams, num_levels, **decoder)
        self.reference_points = Linear(embed_dims, 3)

    def init_weights(self) -> None:
        """Xavier everywhere, then what cross-attention asks for."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, CameraCrossAttention):
                module.init_weights()
        nn.init.zeros_(self.reference_points.bias)

    @kept_pages()
    def forward(
        self,
        feats: Sequence[Tensor],
        img_metas: list[dict],
        query_embedding: Tensor,
        reg_branches: Sequence[nn.Module],
    ) -> tuple[Tensor, Tensor]:
        """Refine object queries on the images of one frame.

        Args:
            feats: L tensors (B, num_cams, C, h, w).
            img_metas: one dict per sample, see the dataset.
            query_embedding: (Q, 2 C): positions, then contents.
            reg_branches: one per layer, (B, Q, C) -> (B, Q, 10).

        Returns:
            What :class:`DETR3DDecoder` returns.
        """
        dtype = at_least_float32(query_embedding).dtype
        lidar2img, img_shape = camera_geometry(img_metas, query_embedding.device, dtype)
        filled = filled_share(img_metas, img_shape) if self.valid_shape else None
        return self.refine(feats, lidar2img, img_shape, query_embedding, reg_branches, filled)

    def refine(
        self,
        feats: Sequence[Tensor],
        lidar2img: Tensor,
        img_shape: Tensor,
        query_embedding: Tensor,
        reg_branches: Sequence[nn.Module],
        filled: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`forward` without metas: ``lidar2img`` (B, num_cams, 4, 4), ``img_shape`` (B, num_cams, 2) or (1, 1, 2), and
        ``filled`` as :func:`filled_share` gives it, which ``valid_shape`` needs."""
        if self.valid_shape and filled is None:
            raise UserError(
                'a graph of fixed size does not know which padding an image has: set valid_shape=False'
            )
        num_cams = feats[0].shape[1]
        if num_cams != self.num_cams:
            raise ValueError(
                f'DETR3DTransformer: the images come from {num_cams} cameras, but num_cams={self.num_cams}.'
            )
        query_pos, query = query_embedding.expand(lidar2img.shape[0], -1, -1).split(self.embed_dims, dim=-1)
        reference = at_least_float32(self.reference_points(query_pos)).sigmoid()
        maps = FeatureMaps([feat.flatten(0, 1) for feat in feats])
        views = CameraViews(maps, lidar2img.to(reference), img_shape.to(reference), self.pc_range, filled)
        return self.decoder(query, query_pos, views, reference, reg_branches)

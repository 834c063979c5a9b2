"""Encoder and decoder of BEVFormer, with the embeddings that tie them to cameras, levels and ego motion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from mmdet.models.utils.builder import TRANSFORMER
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import bev_shift, rotate_bev
from projects.mmdet3d_plugin.hosts.bevformer.bevformer_encoder import (
    BEVFormerEncoder,
    CameraFeatures,
    PreviousBEV,
    SpatialCrossAttention,
    TemporalSelfAttention,
)
from projects.mmdet3d_plugin.hosts.bevformer.detection_decoder import BEVCrossAttention, DetectionDecoder
from projects.mmdet3d_plugin.hosts.bevformer.query_proposals import Proposals
from projects.mmdet3d_plugin.hosts.detr.cameras import camera_geometry
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.ops.pages import kept_pages

# The published checkpoints hold four level embeddings even where the neck has a single level.
MIN_LEVEL_EMBEDS = 4
CAN_BUS_DIMS = 18
DEFORMABLE = (TemporalSelfAttention, SpatialCrossAttention, BEVCrossAttention)
LEGACY_QUIRKS = {
    'shift': 'reference points of the present BEV map are shifted by the ego motion too',
    'rotate_center': 'the previous BEV map turns about cell (100, 100), whatever its size',
    'can_bus': 'the four numbers of the ego orientation are all its real part, as a quaternion assigned to them made them',
    'nearest': 'the previous BEV map is turned by nearest-neighbour look-up, not bilinearly',
}


@dataclass
class Rig:
    """Where the cameras and the car are.

    Attributes:
        lidar2img: (B, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded images.
        img_shape: (B, num_cams, 2), (width, height) of the padded images.
        can_bus: (B, 18), see the dataset.
        prev_exists: (B,), bool, whether there is a frame before.
    """

    lidar2img: Tensor
    img_shape: Tensor
    can_bus: Tensor
    prev_exists: Tensor


@TRANSFORMER.register_module()
class PerceptionTransformer(nn.Module):
    """Image features to BEV feature to object queries (BEVFormer, figure 2).

    Args:
        embed_dims: C.
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        decoder: arguments of :class:`DetectionDecoder`.
        num_cams: cameras in the rig, in the order of the dataset.
        encoder: arguments of :class:`BEVFormerEncoder`; None where the BEV feature is made elsewhere, and nothing here looks
            at images.
        legacy: names of the quirks that the published weights were trained with, out of ``LEGACY_QUIRKS``.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'encoder': BEVFormerEncoder, 'decoder': DetectionDecoder}

    def __init__(
        self,
        embed_dims: int,
        pc_range: list[float],
        decoder: dict[str, Any],
        num_cams: int | None = None,
        encoder: dict[str, Any] | None = None,
        legacy: Sequence[str] = (),
    ) -> None:
        super().__init__()
        unknown = set(legacy) - set(LEGACY_QUIRKS)
        if unknown:
            raise ValueError(
                f'PerceptionTransformer: legacy={sorted(unknown)} is not among {sorted(LEGACY_QUIRKS)}.'
            )
        if encoder is not None and num_cams is None:
            raise ValueError('PerceptionTransformer: an encoder looks at images: num_cams must say how many.')
        self.embed_dims, self.num_cams, self.pc_range = embed_dims, num_cams, pc_range
        self.rotate_center = (100.0, 100.0) if 'rotate_center' in legacy else None
        self.legacy_orientation = 'can_bus' in legacy
        self.rotate_mode = 'nearest' if 'nearest' in legacy else 'bilinear'
        self.encoder = None
        if encoder is not None:
            self.encoder = BEVFormerEncoder(
                embed_dims, pc_range=pc_range, legacy_shift='shift' in legacy, **encoder
            )
        self.decoder = DetectionDecoder(embed_dims, **decoder)
        self.reference_points = Linear(embed_dims, 3)
        if encoder is not None:
            self._add_embeddings(encoder.get('num_levels', MIN_LEVEL_EMBEDS))

    def _add_embeddings(self, num_levels: int) -> None:
        """What ties image features to cameras and levels, and BEV queries to the motion of the car."""
        embed_dims = self.embed_dims
        self.level_embeds = nn.Parameter(torch.zeros(max(MIN_LEVEL_EMBEDS, num_levels), embed_dims))
        self.cams_embeds = nn.Parameter(torch.zeros(self.num_cams, embed_dims))
        self.can_bus_mlp = nn.Sequential(
            Linear(CAN_BUS_DIMS, embed_dims // 2),
            nn.ReLU(inplace=True),
            Linear(embed_dims // 2, embed_dims),
            nn.ReLU(inplace=True),
        )
        self.can_bus_mlp.add_module('norm', nn.LayerNorm(embed_dims))

    def init_weights(self, embed_std: float = 1.0) -> None:
        """Xavier everywhere, then what deformable attention asks for, and embeddings of a given spread."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, DEFORMABLE):
                module.init_weights()
        if self.encoder is not None:
            nn.init.normal_(self.level_embeds, std=embed_std)
            nn.init.normal_(self.cams_embeds, std=embed_std)
        nn.init.zeros_(self.reference_points.bias)

    @kept_pages()
    def encode(
        self,
        feats: Sequence[Tensor],
        img_metas: list[dict],
        bev_queries: Tensor,
        bev_pos: Tensor,
        bev_shape: tuple[int, int],
        prev_bev: Tensor | None = None,
        prev_exists: Tensor | None = None,
    ) -> Tensor:
        """Image features to BEV feature.

        Args:
            feats: L tensors (B, num_cams, C, h, w).
            img_metas: one dict per sample, see the dataset.
            bev_queries: (H * W, C).
            bev_pos: (B, H * W, C).
            bev_shape: (H, W).
            prev_bev: (B, H * W, C), the BEV feature of the previous frame; never written to.
            prev_exists: (B,), bool; by default what the metas say.

        Returns:
            (B, H * W, C).
        """
        device = bev_pos.device
        lidar2img, img_shape = camera_geometry(img_metas, device)
        can_bus = torch.from_numpy(np.stack([meta['can_bus'] for meta in img_metas])).to(device)
        if prev_exists is None:
            prev_exists = torch.tensor([bool(meta['prev_bev_exists']) for meta in img_metas])
        rig = Rig(lidar2img, img_shape, can_bus, prev_exists)
        return self.encode_rig(feats, rig, bev_queries, bev_pos, bev_shape, prev_bev)

    def encode_rig(
        self,
        feats: Sequence[Tensor],
        rig: Rig,
        bev_queries: Tensor,
        bev_pos: Tensor,
        bev_shape: tuple[int, int],
        prev_bev: Tensor | None,
    ) -> Tensor:
        """:meth:`encode` of tensors alone, as a graph needs it."""
        cameras = self._camera_features(feats, rig)
        query = bev_queries[None] + self.can_bus_mlp(self._ego_state(rig.can_bus).to(bev_pos.dtype))[:, None]
        previous = None
        if prev_bev is not None:
            previous = self._align(prev_bev, rig.prev_exists, rig.can_bus, bev_shape)
        return self.encoder(query, bev_pos, bev_shape, cameras, previous)

    @kept_pages()
    def decode(
        self,
        bev: Tensor,
        query_embedding: Tensor,
        bev_shape: tuple[int, int],
        reg_branches: Sequence[nn.Module],
        proposals: Proposals | None = None,
    ) -> tuple[Tensor, Tensor]:
        """BEV feature (B, H * W, C) and query embedding (Q, 2 C) to what :class:`DetectionDecoder` returns."""
        query_pos, query = query_embedding.expand(len(bev), -1, -1).split(self.embed_dims, dim=-1)
        if proposals is None:
            reference = self.reference_points(query_pos).float().sigmoid()
        else:
            query, query_pos = query + proposals.content, query_pos + proposals.place
            reference = proposals.reference
        return self.decoder(query, query_pos, bev, reference, bev_shape, reg_branches)

    def _ego_state(self, can_bus: Tensor) -> Tensor:
        """(B, 18), what the queries are told of the ego car."""
        if not self.legacy_orientation:
            return can_bus
        return torch.cat([can_bus[:, :3], can_bus[:, 3:4].expand(-1, 4), can_bus[:, 7:]], dim=1)

    def _align(
        self, prev_bev: Tensor, exists: Tensor, can_bus: Tensor, bev_shape: tuple[int, int]
    ) -> PreviousBEV:
        """Turn the previous BEV feature to the present heading; where there is none, take zeros."""
        x0, y0, _, x1, y1, _ = self.pc_range
        grid = prev_bev.transpose(1, 2).unflatten(2, bev_shape)
        turned = rotate_bev(grid, can_bus[:, -1], self.rotate_center, self.rotate_mode)
        shift = bev_shift(can_bus, (x1 - x0, y1 - y0)).to(prev_bev.dtype)
        known = exists.device.type == 'cpu' and not torch.onnx.is_in_onnx_export()
        everywhere = known and bool(exists.all())
        return PreviousBEV(turned.flatten(2).transpose(1, 2), exists.to(shift.device), shift, everywhere)

    def _camera_features(self, feats: Sequence[Tensor], rig: Rig) -> CameraFeatures:
        """Add camera and level embeddings, and flatten the levels."""
        num_cams = feats[0].shape[1]
        if num_cams != self.num_cams:
            raise ValueError(
                f'PerceptionTransformer: the images come from {num_cams} cameras, but num_cams={self.num_cams}.'
            )
        levels = [
            feat.flatten(3).transpose(2, 3) + self.cams_embeds[:, None] + self.level_embeds[i]
            for i, feat in enumerate(feats)
        ]
        return CameraFeatures(
            value=torch.cat(levels, dim=2).flatten(0, 1),
            spatial_shapes=[tuple(feat.shape[-2:]) for feat in feats],
            lidar2img=rig.lidar2img,
            img_shape=rig.img_shape,
        )

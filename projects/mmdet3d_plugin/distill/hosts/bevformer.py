"""What the distiller knows about BEVFormer."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch
from projects.mmdet3d_plugin.distill.hosts.bev_query_host import BEVQueryHostAdapter
from projects.mmdet3d_plugin.distill.hosts.camera_host import CameraHostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import VisiblePairs
from projects.mmdet3d_plugin.hosts.bevformer.bevformer_encoder import CameraDeformableAttention


@ADAPTERS.register_module(name='BEVFormer')
class BEVFormerAdapter(BEVQueryHostAdapter, CameraHostAdapter):
    """BEVFormer: ``pv`` is one (B * num_cams, C, h, w) per FPN level, ``bev`` is (B, C, H, W), row = y, column = x."""

    bev_path: ClassVar[str] = 'pts_bbox_head.transformer.encoder'

    def prepare(self, model: nn.Module, batch: Batch) -> Batch:
        """Compute the BEV of the earlier frames without gradient; keep the last frame.

        Args:
            model: a BEVFormer.
            batch: ``img`` (B, T, num_cams, 3, H, W), ``img_metas`` list[B] of list[T], and the rest.

        Returns:
            The batch with T = 1 and ``prev_bev`` (B, bev_h * bev_w, C), or None at T = 1.
        """
        img, metas = batch['img'], batch['img_metas']
        prev_bev = batch.get('prev_bev')
        if img.shape[1] > 1:
            prev_bev = model.history_bev(img[:, :-1], [queue[:-1] for queue in metas])
        return self.present(model, batch) | {'prev_bev': prev_bev}

    def infer(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Raw predictions of the current frame: ``bev_embed``, ``all_cls_scores``, ``all_bbox_preds``."""
        return model.predict_raw(batch['img'], batch['img_metas'], batch.get('prev_bev'))

    def fresh_query_head(self, model: nn.Module) -> nn.Module:
        """A detection head without encoder, with new weights."""
        head = super().fresh_query_head(model)
        del head.bev_embedding, head.positional_encoding
        head.bev_geometry = None
        transformer = head.transformer
        del transformer.level_embeds, transformer.cams_embeds, transformer.can_bus_mlp
        transformer.encoder = None
        transformer.num_cams = None  # what is left reads a map, whatever the cameras that made it
        return head

    def cost_parts(self, model: nn.Module) -> dict[str, str]:
        """The five parts of the published tables."""
        transformer = f'{self.head}.transformer'
        return {
            'backbone': 'img_backbone',
            'neck': 'img_neck',
            'encoder': f'{transformer}.encoder',
            'decoder': f'{transformer}.decoder',
            'head': self.head,
        }

    def published_rows(self, model: nn.Module) -> dict[nn.Module, Callable[[tuple], dict[nn.Module, int]]]:
        """Spatial cross-attention: published figures pad every camera's queries to the camera that sees most."""
        attentions = [module for module in model.modules() if isinstance(module, CameraDeformableAttention)]
        return {module: partial(_padded_rows, module) for module in attentions}

    def grids(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """The learned BEV queries and their row and column positions."""
        h, w = model.pts_bbox_head.bev_h, model.pts_bbox_head.bev_w
        return {
            'pts_bbox_head.bev_embedding.weight': (h, w),
            'pts_bbox_head.positional_encoding.row_embed.weight': (h,),
            'pts_bbox_head.positional_encoding.col_embed.weight': (w,),
        }


def _padded_rows(attention: CameraDeformableAttention, inputs: tuple) -> dict[nn.Module, int]:
    """Rows that an implementation projects which pads all cameras to the fullest; ours projects every query once."""
    value = inputs[1]
    pairs = next(item for item in inputs if isinstance(item, VisiblePairs))
    rows = len(value) * int(torch.bincount(pairs.value_index).max())
    return {attention.sampling_offsets: rows, attention.attention_weights: rows}

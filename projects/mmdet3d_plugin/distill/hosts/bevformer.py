"""What the distiller knows about BEVFormer."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch
from projects.mmdet3d_plugin.distill.hosts.camera_host import CameraHostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.step import Sampling
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import VisiblePairs
from projects.mmdet3d_plugin.hosts.bevformer.bevformer_encoder import CameraDeformableAttention

_DECODER = 'transformer.decoder'
_ENCODER = 'pts_bbox_head.transformer.encoder'


@ADAPTERS.register_module(name='BEVFormer')
class BEVFormerAdapter(CameraHostAdapter):
    """BEVFormer: ``pv`` is one (B * num_cams, C, h, w) per FPN level, ``bev`` is (B, C, H, W), row = y, column = x."""

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

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv': each FPN level's output convolution; 'bev': the encoder's output; 'queries': (num_layers, B, Q, C)."""
        head = model.pts_bbox_head
        h, w = head.bev_h, head.bev_w
        return super().aliases(model) | {
            'bev': [
                Tap(
                    _ENCODER,
                    convert=partial(unflatten_bev, size=(h, w)),
                    channels=head.transformer.embed_dims,
                    size=(h, w),
                    grid=self.bev_grid(model),
                )
            ],
            'queries': [Tap('pts_bbox_head.transformer.decoder', convert=itemgetter(0))],
        }

    def fresh_query_head(self, model: nn.Module) -> nn.Module:
        """A detection head without encoder, with new weights."""
        head = super().fresh_query_head(model)
        del head.bev_embedding, head.positional_encoding
        head.bev_geometry = None
        transformer = head.transformer
        del transformer.encoder, transformer.level_embeds, transformer.cams_embeds, transformer.can_bus_mlp
        transformer.num_cams = None  # what is left reads a map, whatever the cameras that made it
        return head

    def query_taps(self, head: nn.Module) -> list[Tap]:
        """The decoder's queries and reference points, and what its cross-attentions predict from the queries."""
        layers = range(len(head.transformer.decoder.layers))
        parts = ('sampling_offsets', 'attention_weights')
        return [
            Tap(_DECODER),
            *(Tap(f'{_DECODER}.layers.{i}.attentions.1.{part}') for i in layers for part in parts),
        ]

    def decode_queries(self, head: nn.Module, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read class scores and boxes off ``bev_embed`` (B, H * W, C)."""
        return head.decode(predictions['bev_embed'].detach())

    def samplings(self, head: nn.Module, records: dict[str, Any]) -> dict[str, Sampling]:
        """One, on the BEV map."""
        _, references = records[_DECODER]
        attentions = [layer.attentions[1] for layer in head.transformer.decoder.layers]
        layers = [
            _sampled(records, i, attention, references[i, ..., :2], head.bev_shape)
            for i, attention in enumerate(attentions)
        ]
        sampling = Sampling(
            locations=torch.stack([locations for locations, _ in layers])[..., None, :, :],
            weights=torch.stack([weights for _, weights in layers])[..., None, :],
            projections=torch.stack([attention.value_proj.weight.float() for attention in attentions]),
        )
        return {_ENCODER: sampling}

    def bev_grid(self, model: nn.Module) -> BEVGrid:
        """The head's range and its queries."""
        head = model.pts_bbox_head
        return BEVGrid(list(head.pc_range), size=(head.bev_h, head.bev_w))

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


def _sampled(
    records: dict[str, Any], layer: int, attention: nn.Module, reference: Tensor, bev_shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Sampled positions (B, Q, M, P, 2) in [0, 1] and attention weights (B, Q, M, P) of one decoder layer."""
    path = f'{_DECODER}.layers.{layer}.attentions.1'
    offsets, logits = (
        records[f'{path}.{part}'].float() for part in ('sampling_offsets', 'attention_weights')
    )
    b, q = reference.shape[:2]
    offsets = offsets.view(b, q, attention.num_heads, attention.num_points, 2)
    size = offsets.new_tensor([bev_shape[1], bev_shape[0]])
    weights = logits.view(b, q, attention.num_heads, attention.num_points).softmax(-1)
    return reference[:, :, None, None] + offsets / size, weights


def _padded_rows(attention: CameraDeformableAttention, inputs: tuple) -> dict[nn.Module, int]:
    """Rows that an implementation projects which pads all cameras to the fullest; ours projects every query once."""
    value = inputs[1]
    pairs = next(item for item in inputs if isinstance(item, VisiblePairs))
    rows = len(value) * int(torch.bincount(pairs.value_index).max())
    return {attention.sampling_offsets: rows, attention.attention_weights: rows}


def unflatten_bev(bev: Any, size: tuple[int, int]) -> Tensor:
    """(B, H * W, C), rows first -> (B, C, H, W)."""
    b, cells, c = bev.shape
    if cells != size[0] * size[1]:
        raise ValueError(f'a BEV of {size[0]} x {size[1]} cells was expected, the encoder returned {cells}')
    return bev.transpose(1, 2).reshape(b, c, *size)

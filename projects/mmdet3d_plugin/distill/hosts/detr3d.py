"""What the distiller knows about DETR3D."""

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.precision import at_least_float32
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch
from projects.mmdet3d_plugin.distill.hosts.camera_host import CameraHostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.step import Sampling
from projects.mmdet3d_plugin.distill.taps import Tap

_DECODER = 'transformer.decoder'


@ADAPTERS.register_module(name='DETR3D')
class DETR3DAdapter(CameraHostAdapter):
    """DETR3D has no BEV: its queries look at ``pv``, one (B * num_cams, C, h, w) per FPN level."""

    def infer(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """Raw predictions of the current frame, with the ``feats`` and ``img_metas`` that they were read off."""
        feats, metas = model.extract_feat(batch['img'][:, -1]), [queue[-1] for queue in batch['img_metas']]
        return dict(feats=feats, img_metas=metas, **model.pts_bbox_head(feats, metas))

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv': each FPN level's output convolution; 'queries': (num_layers, B, Q, C)."""
        queries = Tap(f'{self.head}.{_DECODER}', convert=itemgetter(0))
        return super().aliases(model) | {'queries': [queries]}

    def query_taps(self, head: nn.Module) -> list[Tap]:
        """What the decoder looked at and started its layers from, and how much each layer attends to what."""
        layers = range(len(head.transformer.decoder.layers))
        return [
            Tap(f'{_DECODER}:call'),
            *(Tap(f'{_DECODER}.layers.{i}.attentions.1.attention_weights') for i in layers),
        ]

    def decode_queries(self, head: nn.Module, predictions: dict[str, Any]) -> dict[str, Tensor]:
        """Read class scores and boxes off the teacher's image features."""
        return head([feat.detach() for feat in predictions['feats']], predictions['img_metas'])

    def samplings(self, head: nn.Module, records: dict[str, Any]) -> dict[str, Sampling]:
        """One per FPN level."""
        locations, weights = _looks(head, records)
        attentions = [layer.attentions[1] for layer in head.transformer.decoder.layers]
        projections = torch.stack([at_least_float32(part.output_proj.weight) for part in attentions])
        return {
            f'img_neck.fpn_convs.{level}.conv': Sampling(locations, weights[..., level, None], projections)
            for level in range(weights.shape[-1])
        }

    def cost_parts(self, model: nn.Module) -> dict[str, str]:
        """Backbone, neck, decoder, and what the head has besides."""
        return {
            'backbone': 'img_backbone',
            'neck': 'img_neck',
            'decoder': f'{self.head}.{_DECODER}',
            'head': self.head,
        }


def _looks(head: nn.Module, records: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Sampled positions (num_layers, B, Q, 1, num_cams, 1, 2) and weights (num_layers, B, Q, 1, num_cams, L)."""
    call = records[f'{_DECODER}:call']
    (_, _, views, *_), (_, references) = call
    locations, weights = [], []
    for i, reference in enumerate(references):
        places, seen = views.project(reference)
        logits = at_least_float32(records[f'{_DECODER}.layers.{i}.attentions.1.attention_weights'])
        locations.append(places)
        weights.append(logits.sigmoid().view(*seen.shape, -1) * seen[..., None])
    return torch.stack(locations)[:, :, :, None, :, None], torch.stack(weights)[:, :, :, None]

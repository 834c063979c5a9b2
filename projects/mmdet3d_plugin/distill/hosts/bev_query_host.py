"""What the distiller knows about object queries that look at a BEV feature, as BEVFormer's decoder has them."""

from functools import partial
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.hosts.query_host import QueryHostAdapter
from projects.mmdet3d_plugin.distill.step import Sampling
from projects.mmdet3d_plugin.distill.taps import Tap

_DECODER = 'transformer.decoder'


class BEVQueryHostAdapter(QueryHostAdapter):
    """Hosts with BEVFormer's decoder: ``bev`` is (B, C, H, W), row = y, column = x, ``queries`` (num_layers, B, Q, C)."""

    bev_path: ClassVar[str] = ''
    """Module whose output is the BEV feature (B, H * W, C)."""

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """Those of the bases; 'bev': what the decoder reads; 'queries': (num_layers, B, Q, C)."""
        head = model.pts_bbox_head
        h, w = head.bev_shape
        return super().aliases(model) | {
            'bev': [
                Tap(
                    self.bev_path,
                    convert=partial(unflatten_bev, size=(h, w)),
                    channels=head.transformer.embed_dims,
                    size=(h, w),
                    grid=self.bev_grid(model),
                )
            ],
            'queries': [Tap(f'{self.head}.{_DECODER}', convert=itemgetter(0))],
        }

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
        return {self.bev_path: sampling}

    def bev_grid(self, model: nn.Module) -> BEVGrid:
        """The head's range and its queries."""
        head = model.pts_bbox_head
        return BEVGrid(list(head.pc_range), size=head.bev_shape)


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


def unflatten_bev(bev: Any, size: tuple[int, int]) -> Tensor:
    """(B, H * W, C), rows first -> (B, C, H, W)."""
    b, cells, c = bev.shape
    if cells != size[0] * size[1]:
        raise ValueError(f'a BEV of {size[0]} x {size[1]} cells was expected, the encoder returned {cells}')
    return bev.transpose(1, 2).reshape(b, c, *size)

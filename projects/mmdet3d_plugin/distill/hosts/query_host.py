"""What the distiller knows about detectors that read boxes off object queries."""

import copy
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.box_codec import convert_codes, decode_boxes
from projects.mmdet3d_plugin.common.precision import at_least_float32
from projects.mmdet3d_plugin.distill.dense_heads.object_queries import ObjectQueries
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections, HostAdapter
from projects.mmdet3d_plugin.distill.step import QueryReading, Sampling, present_metas
from projects.mmdet3d_plugin.distill.taps import Tap


class QueryHostAdapter(HostAdapter):
    """Hosts whose ``pts_bbox_head`` is a ``DETRHead``: ``heads`` are its raw outputs, ``boxes`` what all queries predict in
    all decoder layers: ``scores`` (L, B, Q, K), logits, and ``codes`` (L, B, Q, 10) of mmdet3d 1.0."""

    head: ClassVar[str] = 'pts_bbox_head'

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Final boxes (n, 9) of the current frame, decoded from raw predictions."""
        predictions = self.infer(model, batch) if predictions is None else predictions
        metas = present_metas(batch['img_metas'])
        return [
            Detections(
                meta['box_type_3d'](boxes, box_dim=boxes.shape[-1], origin=(0.5, 0.5, 0.5)),
                scores,
                labels,
            )
            for (boxes, scores, labels), meta in zip(
                model.pts_bbox_head.get_bboxes(predictions), metas, strict=True
            )
        ]

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """Those of the other bases; 'heads': raw outputs; 'boxes': :func:`read_boxes` of every layer."""
        read = partial(read_boxes, convention=model.pts_bbox_head.box_convention)
        return super().aliases(model) | {
            'heads': [Tap(self.head)],
            'boxes': [Tap(self.head, convert=read)],
        }

    def dense_head(self, model: nn.Module) -> ObjectQueries:
        """Object queries."""
        return ObjectQueries(model.pts_bbox_head)

    def query_head(self, model: nn.Module) -> nn.Module:
        """The detection head, whose decoder is read."""
        return model.pts_bbox_head

    def fresh_query_head(self, model: nn.Module) -> nn.Module:
        """A detection head with new weights."""
        head = copy.deepcopy(model.pts_bbox_head).train()
        for module in head.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        head.init_weights()
        head.requires_grad_(True)
        head.code_weights.requires_grad_(False)
        return head

    def query_losses(
        self, head: nn.Module, predictions: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Set-prediction losses of all layers."""
        return head.loss(batch['gt_bboxes_3d'], batch['gt_labels_3d'], predictions)

    def read_queries(
        self, head: nn.Module, records: dict[str, Any], predictions: dict[str, Any]
    ) -> QueryReading:
        """Boxes, scores, and where each layer's cross-attention looked."""
        scores, codes = (at_least_float32(predictions[f'all_{key}']) for key in ('cls_scores', 'bbox_preds'))
        return QueryReading(
            boxes=decode_boxes(codes, head.box_convention)[..., :7],
            scores=scores.sigmoid(),
            samplings=self.samplings(head, records),
            match=partial(head.match, predictions),
        )

    def samplings(self, head: nn.Module, records: dict[str, Any]) -> dict[str, Sampling]:
        """Which map each layer's cross-attention looked at, where, and how much, by the map's module."""
        raise NotImplementedError(f'{type(self).__name__}: implement samplings()')

    def box_convention(self, model: nn.Module) -> str | None:
        """The convention of the head's box codes."""
        return model.pts_bbox_head.box_convention

    def head_range(self, model: nn.Module) -> list[float] | None:
        """What reference points are parts of."""
        return [float(x) for x in model.pts_bbox_head.pc_range]

    def velocity_scale(self, model: nn.Module) -> float:
        """What the regression branches' velocities are multiplied with."""
        return float(model.pts_bbox_head.velocity_scale)


def read_boxes(predictions: dict[str, Any], convention: str) -> dict[str, Tensor]:
    """Raw predictions of a head -> ``scores`` (L, B, Q, K), logits, and ``codes`` (L, B, Q, 10) in the convention v1.0."""
    codes = convert_codes(predictions['all_bbox_preds'], convention, 'v1.0')
    return dict(scores=predictions['all_cls_scores'], codes=codes)

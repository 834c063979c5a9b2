"""Object queries, their branches and the set-prediction loss, as DETR3D and BEVFormer have them."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmcv.cnn import bias_init_with_prob
from mmdet.core import reduce_mean
from mmdet.models import build_loss
from mmdet.models.utils.builder import build_transformer
from mmdet.models.utils.transformer import inverse_sigmoid
from torch import Tensor, nn

from projects.mmdet3d_plugin.box_codec import BOX_CONVENTIONS, CODE_SIZE, encode_boxes
from projects.mmdet3d_plugin.common.precision import at_least_float32
from projects.mmdet3d_plugin.hosts.detr.hungarian_assigner import HungarianAssigner
from projects.mmdet3d_plugin.hosts.detr.nms_free_coder import NMSFreeCoder
from projects.mmdet3d_plugin.ops.linear import Linear

CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)


class DETRHead(nn.Module):
    """Class scores and boxes of refined object queries, and how they are taught.

    A subclass makes its own parts, calls :meth:`add_queries`, and says how its transformer finds the queries.

    Args:
        num_classes: classes.
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        box_convention: convention of the predicted codes: ``'legacy'`` for the published weights.
        transformer: config of a transformer with ``embed_dims`` and a ``decoder`` with ``layers``.
        bbox_coder: arguments of :class:`NMSFreeCoder`.
        loss_cls: config of the classification loss.
        loss_bbox: config of the regression loss.
        assigner: arguments of :class:`HungarianAssigner`.
        embed_std: standard deviation of embeddings at initialisation. The originals have 1; with less, image features
            stand out sooner, which short schedules need.
        velocity_scale: m/s that one unit of a regression branch stands for. The originals have 1; branches whose
            outputs are all near one learn sooner.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'bbox_coder': NMSFreeCoder, 'assigner': HungarianAssigner}

    def __init__(
        self,
        num_classes: int,
        pc_range: list[float],
        box_convention: str,
        transformer: dict[str, Any],
        bbox_coder: dict[str, Any],
        loss_cls: dict[str, Any],
        loss_bbox: dict[str, Any],
        assigner: dict[str, Any] | None = None,
        embed_std: float = 1.0,
        velocity_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.embed_std, self.velocity_scale = embed_std, velocity_scale
        if box_convention not in BOX_CONVENTIONS:
            raise ValueError(
                f'{type(self).__name__}: box_convention={box_convention!r} is not one of {BOX_CONVENTIONS}.'
            )
        self.num_classes = num_classes
        self.pc_range, self.box_convention = pc_range, box_convention
        self.bbox_coder = NMSFreeCoder(box_convention, **bbox_coder)
        self.assigner = HungarianAssigner(**(assigner or {}))
        self.loss_cls, self.loss_bbox = build_loss(loss_cls), build_loss(loss_bbox)
        self.transformer = build_transformer({**transformer, 'pc_range': pc_range})

    def add_queries(self, num_query: int, num_reg_fcs: int, code_weights: Sequence[float]) -> None:
        """Make object queries and their branches.

        Args:
            num_query: object queries.
            num_reg_fcs: hidden layers of each branch.
            code_weights: weight of each box code in the regression loss.
        """
        dims = self.transformer.embed_dims
        self.query_embedding = nn.Embedding(num_query, dims * 2)
        # A parameter, since the published checkpoints hold it; never trained.
        self.code_weights = nn.Parameter(torch.tensor(code_weights, dtype=torch.float32), requires_grad=False)
        num_layers = len(self.transformer.decoder.layers)
        self.cls_branches = _copies(_cls_branch(dims, self.num_classes, num_reg_fcs), num_layers)
        self.reg_branches = _copies(_reg_branch(dims, num_reg_fcs), num_layers)

    def init_queries(self) -> None:
        """Initial values of the queries, and class scores of 1 % foreground."""
        dims = self.transformer.embed_dims
        # The other half places the reference points, which must stay apart.
        nn.init.normal_(self.query_embedding.weight[:, dims:], std=self.embed_std)
        for branch in self.cls_branches:
            nn.init.constant_(branch[-1].bias, bias_init_with_prob(0.01))

    def read_boxes(
        self,
        queries: Tensor,
        references: Tensor,
        logits: Tensor | None = None,
        codes: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Read class scores and boxes off refined queries.

        Args:
            queries: (num_layers, B, Q, C), after each decoder layer.
            references: (num_layers, B, Q, 3), that each layer started from, in [0, 1] of the range.
            logits: (B, Q, num_classes), to which the classification branches add; 0 by default.
            codes: (B, Q, 10), to which the regression branches add; 0 by default.

        Returns:
            ``all_cls_scores`` (num_layers, B, Q, num_classes) logits and ``all_bbox_preds`` (num_layers, B, Q, 10)
            codes with centres in metres.
        """
        scores = torch.stack([branch(q) for branch, q in zip(self.cls_branches, queries, strict=True)])
        boxes = torch.stack([branch(q) for branch, q in zip(self.reg_branches, queries, strict=True)])
        scores = scores if logits is None else scores + logits
        boxes = boxes if codes is None else boxes + codes
        return dict(all_cls_scores=scores, all_bbox_preds=self._to_metres(boxes, references))

    def loss(
        self, gt_bboxes_3d: Sequence[Any], gt_labels_3d: Sequence[Tensor], outs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Set-prediction loss of every decoder layer.

        Args:
            gt_bboxes_3d: per sample, ``LiDARInstance3DBoxes`` (n, 9).
            gt_labels_3d: per sample, (n,).
            outs: what :meth:`read_boxes` returns.

        Returns:
            ``loss_cls`` and ``loss_bbox`` of the last layer, ``d0.loss_cls``... of the others.
        """
        scores, codes = (at_least_float32(outs[key]) for key in ('all_cls_scores', 'all_bbox_preds'))
        labels, targets, weights, num_pos = self._targets(scores, codes, gt_bboxes_3d, gt_labels_3d)
        num_pos = reduce_mean(scores.new_tensor([float(num_pos)])).clamp(min=1).item()
        losses = {}
        for layer in range(len(scores)):
            prefix = '' if layer == len(scores) - 1 else f'd{layer}.'
            losses[f'{prefix}loss_cls'] = self.loss_cls(
                scores[layer].flatten(0, 1), labels[layer], avg_factor=num_pos
            )
            losses[f'{prefix}loss_bbox'] = self.loss_bbox(
                codes[layer].flatten(0, 1),
                targets[layer],
                weights[layer] * self.code_weights,
                avg_factor=num_pos,
            )
        return losses

    @torch.no_grad()
    def match(
        self, outs: dict[str, Tensor], gt_bboxes_3d: Sequence[Any], gt_labels_3d: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Pair the last layer's queries with ground truth.

        Args:
            outs: what :meth:`read_boxes` returns.
            gt_bboxes_3d: per sample, ``LiDARInstance3DBoxes`` (n, 9).
            gt_labels_3d: per sample, (n,).

        Returns:
            Per sample, (m,) query and (m,) ground-truth indices.
        """
        scores, codes = (at_least_float32(outs[key][-1:]) for key in ('all_cls_scores', 'all_bbox_preds'))
        pairs = []
        for i, (boxes, labels) in enumerate(zip(gt_bboxes_3d, gt_labels_3d, strict=True)):
            gt_codes = self._gt_codes(boxes, codes)
            found = self.assigner(scores[:, i], codes[:, i], labels.to(scores.device), gt_codes)
            pairs.append(found[0])
        return pairs

    def _gt_codes(self, boxes: Any, like: Tensor) -> Tensor:
        """``LiDARInstance3DBoxes`` -> (n, 10) codes in the head's convention, on the device and in the dtype of others."""
        gravity = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1).to(like)
        return encode_boxes(gravity, self.box_convention)

    def get_bboxes(self, outs: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Decode the last layer per sample; see :meth:`NMSFreeCoder.decode`."""
        pairs = zip(outs['all_cls_scores'][-1], outs['all_bbox_preds'][-1], strict=True)
        return [self.bbox_coder.decode(scores, codes) for scores, codes in pairs]

    def _to_metres(self, codes: Tensor, references: Tensor) -> Tensor:
        """Add the reference points (..., 3) to the codes (..., 10); scale centres to metres and velocities to m/s."""
        codes, reference = at_least_float32(codes), inverse_sigmoid(references)
        low, high = codes.new_tensor(self.pc_range).view(2, 3)
        center = torch.cat([codes[..., :2], codes[..., 4:5]], dim=-1) + reference
        center = center.sigmoid() * (high - low) + low
        velocity = codes[..., 8:] * self.velocity_scale
        return torch.cat(
            [center[..., :2], codes[..., 2:4], center[..., 2:], codes[..., 5:8], velocity], dim=-1
        )

    def _targets(
        self, scores: Tensor, codes: Tensor, gt_bboxes_3d: Sequence[Any], gt_labels_3d: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Match every layer and sample.

        Returns:
            labels (num_layers, B * Q), targets and weights (num_layers, B * Q, 10), and the number of matches
            per layer.
        """
        num_layers, b, q, _ = scores.shape
        labels = scores.new_full((num_layers, b, q), self.num_classes, dtype=torch.long)
        targets, weights = torch.zeros_like(codes), torch.zeros_like(codes)
        num_pos = 0
        for i, (boxes, gt_labels) in enumerate(zip(gt_bboxes_3d, gt_labels_3d, strict=True)):
            if not len(gt_labels):
                continue
            gt_labels = gt_labels.to(scores.device)
            gt_codes = self._gt_codes(boxes, codes)
            for layer, (query, gt) in enumerate(
                self.assigner(scores[:, i], codes[:, i], gt_labels, gt_codes)
            ):
                labels[layer, i, query] = gt_labels[gt]
                targets[layer, i, query] = gt_codes[gt]
                weights[layer, i, query] = gt_codes[gt].isfinite().all(1, keepdim=True).to(weights.dtype)
            num_pos += min(q, len(gt_labels))
        return labels.flatten(1), targets.nan_to_num(0.0).flatten(1, 2), weights.flatten(1, 2), num_pos


def _cls_branch(dims: int, num_classes: int, num_fcs: int) -> nn.Sequential:
    """(..., C) -> (..., num_classes) logits."""
    layers: list[nn.Module] = []
    for _ in range(num_fcs):
        layers += [Linear(dims, dims), nn.LayerNorm(dims), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, Linear(dims, num_classes))


def _reg_branch(dims: int, num_fcs: int) -> nn.Sequential:
    """(..., C) -> (..., 10) box codes."""
    layers: list[nn.Module] = []
    for _ in range(num_fcs):
        layers += [Linear(dims, dims), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, Linear(dims, CODE_SIZE))


def _copies(module: nn.Module, count: int) -> nn.ModuleList:
    """Independent copies, one per decoder layer, that start from the same weights."""
    return nn.ModuleList(copy.deepcopy(module) for _ in range(count))

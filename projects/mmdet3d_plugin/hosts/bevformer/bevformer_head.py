"""The detection head of BEVFormer: BEV queries, object queries, branches and the set-prediction loss."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmcv.cnn import bias_init_with_prob
from mmcv.cnn.bricks.transformer import build_positional_encoding
from mmdet.core import reduce_mean
from mmdet.models import HEADS, build_loss
from mmdet.models.utils.builder import build_transformer
from mmdet.models.utils.transformer import inverse_sigmoid
from torch import Tensor, nn

from projects.mmdet3d_plugin.box_codec import BOX_CONVENTIONS, CODE_SIZE, encode_boxes
from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import BEVGeometry
from projects.mmdet3d_plugin.hosts.bevformer.hungarian_assigner import HungarianAssigner
from projects.mmdet3d_plugin.hosts.bevformer.nms_free_coder import NMSFreeCoder
from projects.mmdet3d_plugin.hosts.bevformer.query_proposals import QueryProposals
from projects.mmdet3d_plugin.ops.linear import Linear

CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)


@HEADS.register_module()
class BEVFormerHead(nn.Module):
    """DETR head on a BEV feature (BEVFormer, section 3.5).

    Args:
        bev_h: H, rows of the BEV map (along y).
        bev_w: W, columns of the BEV map (along x).
        num_query: object queries.
        num_classes: classes.
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        box_convention: convention of the predicted codes: ``'legacy'`` for the published weights.
        transformer: config of :class:`PerceptionTransformer`.
        bbox_coder: arguments of :class:`NMSFreeCoder`.
        assigner: arguments of :class:`HungarianAssigner`.
        loss_cls: config of the classification loss.
        loss_bbox: config of the regression loss.
        num_reg_fcs: hidden layers of each branch.
        code_weights: weight of each box code in the regression loss.
        embed_std: standard deviation of BEV queries, of object queries and of camera and level embeddings at
            initialisation. BEVFormer has 1; with less, image features stand out sooner, which short schedules need.
        velocity_scale: m/s that one unit of a regression branch stands for. BEVFormer has 1; branches whose outputs
            are all near one learn sooner.
        bev_geometry: tell every BEV query where its cell lies. BEVFormer lets each learn it by itself, from the few
            objects that it meets in a short schedule.
        proposals: further arguments of :class:`QueryProposals`, whose queries start where a dense head on the BEV feature
            sees something. BEVFormer's start where they learned to, which short schedules have no time for.

    Raises:
        ValueError: for an unknown convention of boxes, or proposals with the legacy one, which they do not speak.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'bbox_coder': NMSFreeCoder, 'assigner': HungarianAssigner}

    def __init__(
        self,
        bev_h: int,
        bev_w: int,
        num_query: int,
        num_classes: int,
        pc_range: list[float],
        box_convention: str,
        transformer: dict[str, Any],
        bbox_coder: dict[str, Any],
        loss_cls: dict[str, Any],
        loss_bbox: dict[str, Any],
        assigner: dict[str, Any] | None = None,
        num_reg_fcs: int = 2,
        code_weights: Sequence[float] = CODE_WEIGHTS,
        embed_std: float = 1.0,
        velocity_scale: float = 1.0,
        bev_geometry: bool = False,
        proposals: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.embed_std, self.velocity_scale = embed_std, velocity_scale
        if box_convention not in BOX_CONVENTIONS:
            raise ValueError(
                f'BEVFormerHead: box_convention={box_convention!r} is not one of {BOX_CONVENTIONS}.'
            )
        if proposals is not None and box_convention != 'v1.0':
            raise ValueError(f'BEVFormerHead: proposals={proposals} needs box_convention="v1.0".')
        self.bev_h, self.bev_w, self.num_classes = bev_h, bev_w, num_classes
        self.pc_range, self.box_convention = pc_range, box_convention
        self.bbox_coder = NMSFreeCoder(box_convention, **bbox_coder)
        self.assigner = HungarianAssigner(**(assigner or {}))
        self.loss_cls, self.loss_bbox = build_loss(loss_cls), build_loss(loss_bbox)
        self.transformer = build_transformer({**transformer, 'pc_range': pc_range})
        dims = self.transformer.embed_dims
        self.positional_encoding = build_positional_encoding(
            dict(
                type='LearnedPositionalEncoding',
                num_feats=dims // 2,
                row_num_embed=bev_h,
                col_num_embed=bev_w,
            )
        )
        self.bev_embedding = nn.Embedding(bev_h * bev_w, dims)
        self.bev_geometry = BEVGeometry(dims, (bev_h, bev_w), pc_range) if bev_geometry else None
        self.proposals = None
        if proposals is not None:
            self.proposals = QueryProposals(
                dims, num_classes, (bev_h, bev_w), pc_range, velocity_scale, **proposals
            )
        self.query_embedding = nn.Embedding(num_query, dims * 2)
        # A parameter, since the published checkpoints hold it; never trained.
        self.code_weights = nn.Parameter(torch.tensor(code_weights), requires_grad=False)
        num_layers = len(self.transformer.decoder.layers)
        self.cls_branches = _copies(_cls_branch(dims, num_classes, num_reg_fcs), num_layers)
        self.reg_branches = _copies(_reg_branch(dims, num_reg_fcs), num_layers)

    @property
    def bev_shape(self) -> tuple[int, int]:
        """(H, W) of the BEV map."""
        return self.bev_h, self.bev_w

    def init_weights(self) -> None:
        """Initialise the transformer, and the class scores to 1 % foreground."""
        self.transformer.init_weights(self.embed_std)
        nn.init.normal_(self.bev_embedding.weight, std=self.embed_std)
        dims = self.transformer.embed_dims
        # The other half places the reference points, which must stay apart.
        nn.init.normal_(self.query_embedding.weight[:, dims:], std=self.embed_std)
        for branch in self.cls_branches:
            # What a proposal is likely to be is known before any branch speaks.
            nn.init.constant_(branch[-1].bias, bias_init_with_prob(0.01) if self.proposals is None else 0.0)
        for branch in self.reg_branches if self.proposals is not None else ():
            nn.init.zeros_(branch[-1].weight)
            nn.init.zeros_(branch[-1].bias)

    def encode(
        self,
        feats: Sequence[Tensor],
        img_metas: list[dict],
        prev_bev: Tensor | None = None,
        prev_exists: Tensor | None = None,
    ) -> Tensor:
        """Image features to BEV feature (B, H * W, C); arguments as in :meth:`PerceptionTransformer.encode`."""
        weight = self.bev_embedding.weight
        if self.bev_geometry is not None:
            weight = weight + self.bev_geometry()
        mask = weight.new_zeros(len(img_metas), self.bev_h, self.bev_w)
        bev_pos = self.positional_encoding(mask).flatten(2).transpose(1, 2)
        return self.transformer.encode(
            feats, img_metas, weight, bev_pos, self.bev_shape, prev_bev, prev_exists
        )

    def decode(self, bev: Tensor) -> dict[str, Tensor]:
        """Read class scores and boxes off the BEV feature (B, H * W, C).

        Returns:
            ``bev_embed`` (B, H * W, C), ``all_cls_scores`` (num_layers, B, Q, num_classes) logits and
            ``all_bbox_preds`` (num_layers, B, Q, 10) codes with centres in metres; with proposals, their ``maps``.
        """
        proposals = self.proposals(bev, self.query_embedding.num_embeddings) if self.proposals else None
        queries, references = self.transformer.decode(
            bev, self.query_embedding.weight, self.bev_shape, self.reg_branches, proposals
        )
        scores = torch.stack([branch(q) for branch, q in zip(self.cls_branches, queries, strict=True)])
        codes = torch.stack([branch(q) for branch, q in zip(self.reg_branches, queries, strict=True)])
        if proposals is not None:
            scores, codes = scores + proposals.logits, codes + proposals.codes
        boxes = self._to_metres(codes, references)
        found = dict(bev_embed=bev, all_cls_scores=scores, all_bbox_preds=boxes)
        return found if proposals is None else {**found, 'maps': proposals.maps}

    def forward(
        self,
        feats: Sequence[Tensor],
        img_metas: list[dict],
        prev_bev: Tensor | None = None,
        prev_exists: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Encode and decode one frame; see :meth:`encode` and :meth:`decode`."""
        return self.decode(self.encode(feats, img_metas, prev_bev, prev_exists))

    def loss(
        self, gt_bboxes_3d: Sequence[Any], gt_labels_3d: Sequence[Tensor], outs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Set-prediction loss of every decoder layer.

        Args:
            gt_bboxes_3d: per sample, ``LiDARInstance3DBoxes`` (n, 9).
            gt_labels_3d: per sample, (n,).
            outs: what :meth:`decode` returns.

        Returns:
            ``loss_cls`` and ``loss_bbox`` of the last layer, ``d0.loss_cls``... of the others; with
            proposals also those of :class:`DenseBEVHead`.
        """
        scores, codes = outs['all_cls_scores'].float(), outs['all_bbox_preds'].float()
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
        if self.proposals is not None:
            losses |= self.proposals.dense.loss(outs['maps'], gt_bboxes_3d, gt_labels_3d)
        return losses

    @torch.no_grad()
    def match(
        self, outs: dict[str, Tensor], gt_bboxes_3d: Sequence[Any], gt_labels_3d: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Pair the last layer's queries with ground truth.

        Args:
            outs: what :meth:`decode` returns.
            gt_bboxes_3d: per sample, ``LiDARInstance3DBoxes`` (n, 9).
            gt_labels_3d: per sample, (n,).

        Returns:
            Per sample, (m,) query and (m,) ground-truth indices.
        """
        scores, codes = outs['all_cls_scores'][-1:].float(), outs['all_bbox_preds'][-1:].float()
        pairs = []
        for i, (boxes, labels) in enumerate(zip(gt_bboxes_3d, gt_labels_3d, strict=True)):
            gt_codes = self._gt_codes(boxes, scores.device)
            found = self.assigner(scores[:, i], codes[:, i], labels.to(scores.device), gt_codes)
            pairs.append(found[0])
        return pairs

    def _gt_codes(self, boxes: Any, device: torch.device) -> Tensor:
        """``LiDARInstance3DBoxes`` -> (n, 10) codes in the head's convention."""
        gravity = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1).to(device)
        return encode_boxes(gravity.float(), self.box_convention)

    def get_bboxes(self, outs: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Decode the last layer per sample; see :meth:`NMSFreeCoder.decode`."""
        pairs = zip(outs['all_cls_scores'][-1], outs['all_bbox_preds'][-1], strict=True)
        return [self.bbox_coder.decode(scores, codes) for scores, codes in pairs]

    def _to_metres(self, codes: Tensor, references: Tensor) -> Tensor:
        """Add the reference points (..., 3) to the codes (..., 10); scale centres to metres and velocities to m/s."""
        codes, reference = codes.float(), inverse_sigmoid(references)
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
            gt_codes = self._gt_codes(boxes, scores.device)
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

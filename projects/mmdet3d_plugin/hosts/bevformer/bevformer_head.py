"""The detection head of BEVFormer: BEV queries, and object queries that look at the BEV feature."""

from collections.abc import Sequence
from typing import Any, ClassVar

from mmcv.cnn.bricks.transformer import build_positional_encoding
from mmdet.models import HEADS
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import BEVGeometry
from projects.mmdet3d_plugin.hosts.bevformer.dense_bev_head import DenseBEVHead
from projects.mmdet3d_plugin.hosts.bevformer.perception_transformer import Rig
from projects.mmdet3d_plugin.hosts.bevformer.query_proposals import QueryProposals
from projects.mmdet3d_plugin.hosts.detr.detr_head import CODE_WEIGHTS, DETRHead


@HEADS.register_module()
class BEVFormerHead(DETRHead):
    """DETR head on a BEV feature (BEVFormer, section 3.5).

    Args:
        bev_h: H, rows of the BEV map (along y).
        bev_w: W, columns of the BEV map (along x).
        num_query: object queries.
        num_reg_fcs: hidden layers of each branch.
        code_weights: weight of each box code in the regression loss.
        bev_geometry: tell every BEV query where its cell lies. BEVFormer lets each learn it by itself, from the few
            objects that it meets in a short schedule.
        proposals: further arguments of :class:`QueryProposals`, whose queries start where a dense head on the BEV feature
            sees something. BEVFormer's start where they learned to, which short schedules have no time for.
        **head: further arguments of :class:`DETRHead`; its transformer is a :class:`PerceptionTransformer`.

    Raises:
        ValueError: for an unknown convention of boxes, or proposals with the legacy one, in which they cannot be given.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {**DETRHead.CONFIG_PARTS, 'proposals': DenseBEVHead}

    def __init__(
        self,
        bev_h: int,
        bev_w: int,
        num_query: int,
        num_reg_fcs: int = 2,
        code_weights: Sequence[float] = CODE_WEIGHTS,
        bev_geometry: bool = False,
        proposals: dict[str, Any] | None = None,
        **head: Any,
    ) -> None:
        super().__init__(**head)
        if proposals is not None and self.box_convention != 'v1.0':
            raise ValueError(f'BEVFormerHead: proposals={proposals} needs box_convention="v1.0".')
        self.bev_h, self.bev_w = bev_h, bev_w
        dims = self.transformer.embed_dims
        if self.transformer.encoder is not None:
            self._add_bev_queries(bev_geometry)
        self.proposals = None
        if proposals is not None:
            self.proposals = QueryProposals(
                dims, self.num_classes, (bev_h, bev_w), self.pc_range, self.velocity_scale, **proposals
            )
        self.add_queries(num_query, num_reg_fcs, code_weights)

    def _add_bev_queries(self, bev_geometry: bool) -> None:
        """What the encoder starts from in every cell."""
        dims = self.transformer.embed_dims
        self.positional_encoding = build_positional_encoding(
            dict(
                type='LearnedPositionalEncoding',
                num_feats=dims // 2,
                row_num_embed=self.bev_h,
                col_num_embed=self.bev_w,
            )
        )
        self.bev_embedding = nn.Embedding(self.bev_h * self.bev_w, dims)
        self.bev_geometry = BEVGeometry(dims, self.bev_shape, self.pc_range) if bev_geometry else None

    @property
    def bev_shape(self) -> tuple[int, int]:
        """(H, W) of the BEV map."""
        return self.bev_h, self.bev_w

    def init_weights(self) -> None:
        """Initialise the transformer, and the class scores to 1 % foreground."""
        self.transformer.init_weights(self.embed_std)
        if self.transformer.encoder is not None:
            nn.init.normal_(self.bev_embedding.weight, std=self.embed_std)
        self.init_queries()
        if self.proposals is None:
            return
        self.proposals.dense.init_prior()
        # What a proposal is likely to be is known before any branch runs.
        for branch in self.cls_branches:
            nn.init.zeros_(branch[-1].bias)
        for branch in self.reg_branches:
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
        queries, position = self._bev_queries(len(img_metas))
        return self.transformer.encode(
            feats, img_metas, queries, position, self.bev_shape, prev_bev, prev_exists
        )

    def encode_rig(self, feats: Sequence[Tensor], rig: Rig, prev_bev: Tensor | None = None) -> Tensor:
        """:meth:`encode` of tensors alone; (B, H * W, C)."""
        queries, position = self._bev_queries(len(rig.can_bus))
        return self.transformer.encode_rig(feats, rig, queries, position, self.bev_shape, prev_bev)

    def _bev_queries(self, batch: int) -> tuple[Tensor, Tensor]:
        """(H * W, C) queries and (B, H * W, C) their positions."""
        weight = self.bev_embedding.weight
        if self.bev_geometry is not None:
            weight = weight + self.bev_geometry()
        mask = weight.new_zeros(batch, self.bev_h, self.bev_w)
        return weight, self.positional_encoding(mask).flatten(2).transpose(1, 2)

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
        if proposals is None:
            return dict(bev_embed=bev, **self.read_boxes(queries, references))
        found = self.read_boxes(queries, references, proposals.logits, proposals.codes)
        return dict(bev_embed=bev, **found, maps=proposals.maps)

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
        """Those of :class:`DETRHead`; with proposals also those of :class:`DenseBEVHead`. Arguments as there."""
        losses = super().loss(gt_bboxes_3d, gt_labels_3d, outs)
        if self.proposals is not None:
            losses |= self.proposals.dense.loss(outs['maps'], gt_bboxes_3d, gt_labels_3d)
        return losses

"""The head of IA-SSD: the points that are left move to the centres of their objects, and say there what they see."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.runner import BaseModule
from mmdet3d.models.builder import HEADS
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.iassd.centroid_box_coder import CentroidBoxCoder
from projects.mmdet3d_plugin.hosts.iassd.centroid_losses import CentroidLosses
from projects.mmdet3d_plugin.hosts.iassd.centroid_outputs import CentroidOutputs
from projects.mmdet3d_plugin.hosts.iassd.instance_aware_net import Encoded
from projects.mmdet3d_plugin.hosts.iassd.set_abstraction import SetAbstraction
from projects.mmdet3d_plugin.hosts.row_layers import RowBatchNorm, row_layers
from projects.mmdet3d_plugin.hosts.two_stage.rotated_nms import rotated_nms


@HEADS.register_module()
class CentroidHead(BaseModule):
    """Contextual centroid prediction, centroid-based instance aggregation, and proposals of IA-SSD.

    Args:
        num_classes: of objects.
        in_channels: of the encoder's last stage.
        context_channels: of the stage whose points are gathered around centroids.
        aggregation: ``radii``, ``neighbours``, ``widths`` and ``out_channels`` of a :class:`SetAbstraction`.
        mean_sizes: length, width and height of every class, metres, in the order of labels.
        context: index of that stage; the last but one.
        shift_channels: width of the layer before the shifts.
        max_shift: how far a centroid may lie from its point along x, y and z, metres.
        hidden: widths of the layers before scores, and of those before boxes.
        bins: of yaws.
        losses: arguments of :class:`CentroidLosses`.
        train_cfg: not used; detectors of mmdet3d hand it on.
        test_cfg: ``score_thr``, ``nms_thr`` (overlap seen from above, of all classes), ``nms_pre`` and ``max_num``.
        init_cfg: as for every module of mmcv.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        context_channels: int,
        aggregation: Mapping[str, Any],
        mean_sizes: Sequence[Sequence[float]],
        context: int = -2,
        shift_channels: int = 128,
        max_shift: Sequence[float] = (3.0, 3.0, 2.0),
        hidden: Sequence[int] = (256, 256),
        bins: int = 12,
        losses: Mapping[str, Any] | None = None,
        train_cfg: Any = None,
        test_cfg: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes, self.context, self.test_cfg = num_classes, context, test_cfg
        self.coder = CentroidBoxCoder(mean_sizes, bins)
        self.losses = CentroidLosses(self.coder, **(losses or {}))
        self.shift = nn.Sequential(
            *row_layers([in_channels, shift_channels], RowBatchNorm), nn.Linear(shift_channels, 3)
        )
        self.aggregation = SetAbstraction(context_channels, **aggregation)
        widths = [self.aggregation.out_channels, *hidden]
        self.scores = nn.Sequential(*row_layers(widths, RowBatchNorm), nn.Linear(widths[-1], num_classes))
        self.boxes = nn.Sequential(*row_layers(widths, RowBatchNorm), nn.Linear(widths[-1], self.coder.size))
        self.register_buffer('max_shift', torch.tensor(max_shift, dtype=torch.float32), persistent=False)

    def forward(self, encoded: Encoded) -> CentroidOutputs:
        """Points after every stage of B clouds -> what M centroids say."""
        points = encoded.stages[-1]
        shifts = self.shift(points.features)
        centroids = self.moved(points.places, shifts)
        features = self.aggregation(encoded.stages[self.context], centroids, points.counts)
        return CentroidOutputs(
            points.places,
            shifts,
            centroids,
            points.counts,
            self.scores(features),
            self.boxes(features),
            encoded.confidences,
        )

    def moved(self, places: Tensor, shifts: Tensor) -> Tensor:
        """Where points (M, 3) come to lie that want to move by (M, 3) metres."""
        return places + shifts.clamp(-self.max_shift, self.max_shift)

    def loss(
        self,
        outputs: CentroidOutputs,
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        ignored: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Losses of the outputs on B times n_i LiDAR boxes and labels (n_i,), see :class:`CentroidLosses`; what lies in
        ``ignored``, B times (m_i, 7) boxes, is neither object nor background."""
        device = outputs.logits.device
        boxes = [own.tensor[:, :7].to(outputs.logits) for own in gt_bboxes_3d]
        known = [labels.to(device) >= 0 for labels in gt_labels_3d]
        labels = [own.to(device)[mask] for own, mask in zip(gt_labels_3d, known, strict=True)]
        boxes = [own[mask] for own, mask in zip(boxes, known, strict=True)]
        unsure = None if ignored is None else [own[:, :7].to(outputs.logits) for own in ignored]
        return self.losses(outputs, boxes, labels, self.num_classes, unsure)

    @torch.no_grad()
    def get_bboxes(
        self, outputs: CentroidOutputs, img_metas: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Any, Tensor, Tensor]]:
        """Per cloud n boxes, scores (n,) and labels (n,), best first."""
        parts = zip(
            *(part.split(outputs.counts) for part in (outputs.centroids, outputs.logits, outputs.codes)),
            img_metas,
            strict=True,
        )
        return [self._boxes_of(*part) for part in parts]

    def _boxes_of(
        self, centroids: Tensor, logits: Tensor, codes: Tensor, meta: Mapping[str, Any]
    ) -> tuple[Any, Tensor, Tensor]:
        """Those of one cloud: (M, 3), (M, classes), (M, D)."""
        cfg = self.test_cfg
        scores, labels = logits.sigmoid().max(1)
        boxes = self.coder.decode(codes, labels, centroids)
        good = (scores > cfg['score_thr']).nonzero().squeeze(1)
        good = good[scores[good].argsort(descending=True, stable=True)[: cfg['nms_pre']]]
        kept = good[rotated_nms(boxes[good], scores[good], cfg['nms_thr'], cfg['max_num'])]
        return meta['box_type_3d'](boxes[kept], box_dim=7), scores[kept], labels[kept]

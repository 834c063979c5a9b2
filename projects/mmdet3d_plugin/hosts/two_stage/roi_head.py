"""The second stage: IoU scores and refined boxes for the proposals of a first one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmdet3d.models.builder import HEADS, build_head
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.row_layers import row_layers
from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import covered_share
from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import (
    corners_of,
    decode_residuals,
    encode_residuals,
)
from projects.mmdet3d_plugin.hosts.two_stage.dense_candidates import candidates_of, number_of_classes
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals, Refined
from projects.mmdet3d_plugin.hosts.two_stage.roi_features import ROI_FEATURES
from projects.mmdet3d_plugin.hosts.two_stage.roi_sampler import RoISampler
from projects.mmdet3d_plugin.hosts.two_stage.roi_targets import assign_targets, quality_of
from projects.mmdet3d_plugin.hosts.two_stage.rotated_nms import rotated_nms

MAP = 'bev'
"""Name of a map that is given without one: the first level of the neck."""
_SCORES = ('iou', 'mean')
_IGNORED = 0.3  # share of a box's ground in an ignored one, from which on it is not trained on


class Selection(NamedTuple):
    """How many boxes stay: ``before`` suppression, best first; overlapping less than ``iou`` from above; ``kept``."""

    before: int
    iou: float
    kept: int


@HEADS.register_module()
class RoIHead(nn.Module):
    """Looks at each proposal again, in finer features, and says how well it fits and how to correct it.

    Args:
        num_classes: of the dense head, in its order.
        features: configs of :class:`~projects.mmdet3d_plugin.hosts.two_stage.roi_features.RoIFeatures`, whose rows are
            put side by side.
        train_proposals: how proposals are selected in training: ``dict(before=, iou=, kept=)``.
        test_proposals: the same in testing.
        sampler: arguments of :class:`~projects.mmdet3d_plugin.hosts.two_stage.roi_sampler.RoISampler`.
        hidden: width of the two shared layers.
        norm: of the shared layers, 'layer' or 'batch'.
        dropout: between the shared layers, in training.
        class_branch: also predict the class; the published heads leave it to the first stage.
        score_iou: IoUs at which the score should be 0, and 1.
        box_iou: least IoU of a proposal whose box is corrected; one for all classes or one per class.
        weights: of the losses ``iou``, ``box``, ``corner`` and ``class``.
        score: final score of a box: 'iou', or 'mean', the geometric mean of that and the first stage's.
        score_thr: least final score.
        nms_iou: of final boxes, those that overlap a better one by more than this from above are dropped, of any class.
        max_num: final boxes per cloud at the most.

    Raises:
        UserError: a part of the config that does not fit.
    """

    def __init__(
        self,
        num_classes: int,
        features: Sequence[Mapping[str, Any]],
        train_proposals: Mapping[str, Any],
        test_proposals: Mapping[str, Any],
        sampler: Mapping[str, Any] | None = None,
        hidden: int = 128,
        norm: str = 'layer',
        dropout: float = 0.0,
        class_branch: bool = False,
        score_iou: Sequence[float] = (0.25, 0.75),
        box_iou: float | Sequence[float] = 0.55,
        weights: Mapping[str, float] | None = None,
        score: str = 'iou',
        score_thr: float = 0.1,
        nms_iou: float = 0.1,
        max_num: int = 50,
    ) -> None:
        super().__init__()
        if score not in _SCORES:
            raise UserError(f'the score of a second stage must be one of {_SCORES}, got {score!r}')
        self.num_classes = num_classes
        self.selections = {True: Selection(**train_proposals), False: Selection(**test_proposals)}
        self.sampler = RoISampler(**(sampler or {}))
        self.features = nn.ModuleList(ROI_FEATURES.build(dict(part)) for part in features)
        width = sum(part.width for part in self.features) + 3
        self.shared = row_layers([width, hidden, hidden], norm, dropout)
        self.iou_branch, self.box_branch = nn.Linear(hidden, 1), nn.Linear(hidden, 7)
        nn.init.normal_(self.box_branch.weight, std=0.001)
        nn.init.zeros_(self.box_branch.bias)
        self.class_branch = nn.Linear(hidden, num_classes) if class_branch else None
        self.score_iou, self.box_iou = tuple(score_iou), box_iou
        self.weights = dict(iou=1.0, box=1.0, corner=1.0) | ({'class': 1.0} | dict(weights or {}))
        self.score, self.score_thr, self.nms_iou, self.max_num = score, score_thr, nms_iou, max_num

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the first stage's maps that the features need, each once."""
        return tuple(dict.fromkeys(name for part in self.features for name in part.reads))

    @torch.no_grad()
    def propose(self, head_outputs: Any, dense_head: nn.Module) -> Proposals:
        """The best boxes of a dense head that do not overlap too much, with the rows that they came from.

        Args:
            head_outputs: of an anchor head or a centre head for B clouds; logits, not probabilities.
            dense_head: which knows how they are coded.

        Returns:
            Constants; best first within each cloud.
        """
        chosen, found = self.selections[self.training], []
        for sample, one in enumerate(candidates_of(dense_head, head_outputs, chosen.before)):
            kept = one[rotated_nms(one.boxes, one.scores, chosen.iou, chosen.kept)]
            cloud = torch.full_like(kept.labels, sample)
            boxes, velocities = kept.boxes.split([7, kept.boxes.shape[1] - 7], 1)
            rest = kept.scores, kept.labels, kept.indices, cloud, kept.total
            found.append(Proposals(boxes, *rest, velocities))
        return Proposals.cat(found)

    def refine(
        self, proposals: Proposals, bev_map: Tensor | Mapping[str, Any], points: Sequence[Tensor]
    ) -> Refined:
        """Score and correct boxes.

        Args:
            proposals: N boxes of B clouds.
            bev_map: (B, C, H, W), row = y, column = x; or several, by the names that the features ask for.
            points: B clouds (N_i, C), x, y, z first, metres, LiDAR frame.
        """
        return self(proposals, bev_map, points)

    def forward(
        self, proposals: Proposals, bev_map: Tensor | Mapping[str, Any], points: Sequence[Tensor]
    ) -> Refined:
        """What :meth:`refine` does, as a call of the module, so that hooks see it."""
        maps = bev_map if isinstance(bev_map, Mapping) else {MAP: bev_map}
        rows = [part(proposals, maps, points) for part in self.features]
        shared = self.shared(torch.cat([*rows, proposals.boxes[:, 3:6].log()], 1))
        logits, residuals = self.iou_branch(shared).squeeze(1), self.box_branch(shared)
        classes = None if self.class_branch is None else self.class_branch(shared)
        boxes = decode_residuals(proposals.boxes, residuals)
        return Refined(boxes, logits.sigmoid(), classes, proposals, logits, residuals)

    def losses(
        self, refined: Refined, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The head's own losses.

        Args:
            refined: N boxes of B clouds.
            gt_boxes: B tensors (n_i, 7+), bottom centres, metres and radians, LiDAR frame.
            gt_labels: B tensors (n_i,).

        Returns:
            ``loss_rcnn_iou``: cross entropy of the IoU score, averaged over boxes; ``loss_rcnn_box`` and
            ``loss_rcnn_corner``: smooth L1 of residuals and Huber of corners, of boxes that overlap their object enough,
            averaged over them; ``loss_rcnn_class``. Zeros with a live graph where there is nothing to compare.
        """
        proposals = refined.proposals
        targets = assign_targets(proposals, gt_boxes, gt_labels)
        limits = torch.as_tensor(self.box_iou).to(targets.iou).expand(self.num_classes)[proposals.labels]
        near = targets.iou >= limits
        losses = {'iou': self._mean(_bce(refined.iou_logits, quality_of(targets.iou, *self.score_iou)))}
        losses |= self._box_losses(refined[near], targets.boxes[near])
        if refined.class_logits is not None:
            wanted = F.one_hot(proposals.labels, self.num_classes) * near[:, None]
            losses['class'] = self._mean(_bce(refined.class_logits, wanted.to(targets.iou)).sum(1))
        return {f'loss_rcnn_{name}': self.weights[name] * loss for name, loss in losses.items()}

    def training_losses(
        self,
        proposals: Proposals,
        bev_map: Tensor | Mapping[str, Any],
        points: Sequence[Tensor],
        gt_boxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        ignored: Sequence[Tensor] | None = None,
    ) -> tuple[Refined, dict[str, Tensor]]:
        """Sample boxes to train on, refine them, and compare; see :meth:`refine` and :meth:`losses`.

        Boxes of which nobody knows whether they are objects, as they lie in ``ignored``, B tensors (m_i, 7), are left
        out, unless they are on an object.
        """
        if ignored is not None:
            doubtful = _in_any(proposals, ignored)
            iou = assign_targets(proposals[doubtful], gt_boxes, gt_labels).iou
            left_out = doubtful.masked_scatter(doubtful, iou < self.sampler.foreground_iou)
            proposals = proposals[~left_out]
        sampled = self.sampler(proposals, gt_boxes, gt_labels)
        refined = self.refine(sampled, bev_map, points)
        return refined, self.losses(refined, gt_boxes, gt_labels)

    @torch.no_grad()
    def detect(self, refined: Refined, clouds: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Final boxes.

        Args:
            refined: N boxes.
            clouds: B, of which some may have no box.

        Returns:
            Per cloud (n, 7) boxes, or (n, 9) with the first stage's velocities; scores (n,) and labels (n,), best first.
        """
        scores, proposals = self.final_scores(refined), refined.proposals
        boxes, found = torch.cat([refined.boxes, proposals.velocities], 1), []
        for sample in range(clouds):
            mine = ((proposals.batch_index == sample) & (scores > self.score_thr)).nonzero().squeeze(1)
            mine = mine[rotated_nms(refined.boxes[mine], scores[mine], self.nms_iou, self.max_num)]
            found.append((boxes[mine].detach(), scores[mine].detach(), proposals.labels[mine]))
        return found

    def final_scores(self, refined: Refined) -> Tensor:
        """(N,) scores by which final boxes are ranked."""
        if self.score == 'iou':
            return refined.iou_scores
        return (refined.iou_scores * refined.proposals.scores).sqrt()

    @staticmethod
    def _mean(values: Tensor) -> Tensor:
        """(N,) -> their mean; 0 with a live graph of none."""
        return values.sum() / max(len(values), 1)

    def _box_losses(self, refined: Refined, targets: Tensor) -> dict[str, Tensor]:
        """Losses of M boxes that should become ``targets`` (M, 7)."""
        wanted = encode_residuals(refined.proposals.boxes, targets)
        residual = F.smooth_l1_loss(refined.residuals, wanted, beta=1 / 9, reduction='none').sum(1)
        turned = torch.cat([targets[:, :6], targets[:, 6:] + torch.pi], 1)
        corners = corners_of(refined.boxes)
        gaps = [
            (corners - corners_of(other)).square().sum(2).clamp(min=1e-12).sqrt()
            for other in (targets, turned)
        ]
        # either way round: whether the object faces forward or backward is not the second stage's to say
        gap = torch.minimum(
            *(F.huber_loss(one, torch.zeros_like(one), reduction='none').mean(1) for one in gaps)
        )
        return {'box': self._mean(residual), 'corner': self._mean(gap)}


def build_roi_head(cfg: Mapping[str, Any], dense_head: nn.Module) -> RoIHead:
    """A second stage for the classes of a dense head; ``type`` and ``num_classes`` may be left out.

    Raises:
        UserError: it is made for another number of classes.
    """
    classes = number_of_classes(dense_head)
    head = build_head({'type': 'RoIHead', 'num_classes': classes, **cfg})
    if head.num_classes != classes:
        raise UserError(
            f'roi_head.num_classes is {head.num_classes}, but the first stage knows {classes} classes; leave it out'
        )
    return head


def _in_any(proposals: Proposals, ignored: Sequence[Tensor]) -> Tensor:
    """(N,) bool: proposals that lie in a box of their cloud, of B tensors (m_i, 7)."""
    inside = torch.zeros_like(proposals.labels, dtype=torch.bool)
    for sample, boxes in enumerate(ignored):
        mine = (proposals.batch_index == sample).nonzero().squeeze(1)
        share = covered_share(proposals.boxes[mine], boxes[:, :7].to(proposals.boxes))
        inside[mine] = (share > _IGNORED).any(1)
    return inside


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction='none')

"""Refined boxes of a second stage teach the first stage that proposed them."""

from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead
from projects.mmdet3d_plugin.distill.hosts.adapter import HeadOf
from projects.mmdet3d_plugin.distill.losses.decoupled import check_form
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, mean_over_samples
from projects.mmdet3d_plugin.distill.registry import LOSSES, DistillError
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Refined

_SURE = 1e-4  # probabilities are kept this far from 0 and 1, so that their logits are finite


@LOSSES.register_module()
class HeadToHead(DistillLoss):
    """Head-to-head distillation: the refined boxes of a second stage teach the dense head of the same network.

    Each box knows the anchor or cell that proposed it, so the student's answer is found by index. The published code
    looked for the nearest centre of constants, so that nothing was learnt; it also matched class 1 with class 0.

    - Class term: decoupled logits with the box's label as target. A second stage without a branch for classes says how
      well its box fits, an IoU in (0, 1), which becomes the target's probability; ``others`` is that of each other class
      with form 'sigmoid', and the rest is spread evenly with 'softmax'. Boxes count where teacher or student give the
      label a probability above ``score_thr``; those that the teacher refuses are the student's own false alarms.
    - Box term: the host's own box loss between the student's code and the refined box in the host's own coder, of boxes
      whose IoU score is above ``box_thr``.

    Both are means over the boxes of a sample, then over samples. ``on=dict(student='heads', teacher='second_stage')``.

    Args:
        student_head: gives the student's dense head.
        teacher_head: gives that which the boxes of the second stage come from: the student's own, or one whose rows mean the
            same.
        form: 'sigmoid' or 'softmax', see :mod:`~projects.mmdet3d_plugin.distill.losses.decoupled`.
        temperature: divides both sides' logits.
        alpha: weight of the target class.
        beta: weight of the other classes.
        others: see above; the probability that a dense head starts from.
        score_thr: see above.
        class_weight: of the class term.
        box_weight: of the box term.
        box_thr: see above.
    """

    takes_connector = False

    def __init__(
        self,
        student_head: HeadOf,
        teacher_head: HeadOf,
        form: str = 'sigmoid',
        temperature: float = 1.0,
        alpha: float = 1.0,
        beta: float = 1.0,
        others: float = 0.01,
        score_thr: float = 0.05,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        box_thr: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 < others < 1:
            raise ValueError(f'others must lie between 0 and 1, got {others}')
        self.divergence, self.form = check_form(form, temperature), form
        self.head = student_head()
        _require_same_rows(self.head, teacher_head())
        self.settings = dict(temperature=temperature, alpha=alpha, beta=beta)
        self.others, self.score_thr = others, score_thr
        self.class_weight, self.box_weight, self.box_thr = class_weight, box_weight, box_thr

    def forward(self, student: Any, teacher: Refined) -> Tensor:
        """The loss of one step.

        Args:
            student: raw outputs of its dense head, as its host's ``heads`` gives them.
            teacher: refined boxes; those that no row of the dense head proposed are passed over.

        Returns:
            Scalar.
        """
        rows = self.head.rows(student)
        if rows != teacher.proposals.rows:
            raise DistillError(
                f"HeadToHead finds boxes by their row: the student's dense head has {rows} rows, that of the teacher "
                f'{teacher.proposals.rows}; give both the same voxels and strides'
            )
        refined = teacher[teacher.proposals.remembered]
        logits = self.head.logits(student)
        loss = self.class_weight * self._class_term(logits, student, refined)
        if not self.box_weight:
            return loss
        return loss + self.box_weight * self._box_term(student, refined, len(logits))

    def _class_term(self, logits: Tensor, outputs: Any, refined: Refined) -> Tensor:
        """Decoupled logits of the boxes."""
        sample, label = refined.proposals.batch_index, refined.proposals.labels
        mine = logits[sample, self.head.place(outputs, refined.proposals.indices)]
        wanted = self.wanted(refined, logits.shape[2]).to(mine)
        both = (z.gather(1, label[:, None])[:, 0].sigmoid() for z in (mine.detach(), wanted))
        used = sum(p > self.score_thr for p in both) > 0
        rows = self.divergence(mine[used], wanted[used], label[used], **self.settings)
        return mean_over_samples(rows, sample[used], len(logits))

    def wanted(self, refined: Refined, classes: int) -> Tensor:
        """What the second stage thinks of each class of its boxes, as logits (M, classes)."""
        if refined.class_logits is not None:
            return refined.class_logits
        score = refined.iou_scores.clamp(_SURE, 1 - _SURE)[:, None]
        others = torch.full_like(score, self.others).logit()
        own = score.logit()
        if self.form == 'softmax':  # exp(0) for each other class, so that the target's share is the score
            others, own = torch.zeros_like(score), own + torch.full_like(score, max(classes - 1, 1)).log()
        return others.repeat(1, classes).scatter(1, refined.proposals.labels[:, None], own)

    def _box_term(self, outputs: Any, refined: Refined, samples: int) -> Tensor:
        """The host's box loss of the boxes that fit."""
        refined = refined[refined.iou_scores > self.box_thr]
        sample, rows = refined.proposals.batch_index, refined.proposals.indices
        targets = self.head.encode(outputs, rows, refined.boxes)
        distance = self.head.distance(self.head.codes(outputs, sample, rows), targets)
        return mean_over_samples(distance, sample, samples)


def _require_same_rows(student: DenseHead, teacher: DenseHead) -> None:
    """Raise where a row of one head would be another box of the other."""
    ours, theirs = student.layout(), teacher.layout()
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise DistillError(
                f'HeadToHead finds boxes by their row, but {name} is {ours.get(name)} in the student and '
                f'{theirs.get(name)} in the teacher; give both heads the same'
            )

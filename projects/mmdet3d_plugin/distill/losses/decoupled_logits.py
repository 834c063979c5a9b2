"""Class logits of two dense heads, the target class and the other classes apart."""

from typing import Any

from torch import Tensor

from projects.mmdet3d_plugin.distill.hosts.adapter import HeadOf
from projects.mmdet3d_plugin.distill.losses.decoupled import check_form
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, mean_over_samples
from projects.mmdet3d_plugin.distill.registry import LOSSES


@LOSSES.register_module()
class DecoupledLogits(DistillLoss):
    """Decoupled distillation of class logits, place by place (Zhao et al., CVPR 2022).

    The target class of a place is the teacher's most probable one. Places count where teacher or student give it a
    probability of ``score_thr``: the rest of a dense map is background on which both agree, and a mean over it would
    leave nothing of the loss. The mean is over the places of a sample, then over samples.

    Any teacher will do whose head has the same places: the same anchors, cells or queries.

    Args:
        student_head: gives the student's dense head.
        teacher_head: gives the teacher's.
        form: 'sigmoid' or 'softmax', see :mod:`~projects.mmdet3d_plugin.distill.losses.decoupled`.
        temperature: divides both sides' logits.
        alpha: weight of the target class.
        beta: weight of the other classes.
        score_thr: see above.
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
        score_thr: float = 0.1,
    ) -> None:
        super().__init__()
        self.divergence = check_form(form, temperature)
        self.student_head, self.teacher_head = student_head(), teacher_head()
        self.settings = dict(temperature=temperature, alpha=alpha, beta=beta)
        self.score_thr = score_thr

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Distance between the logits of two heads.

        Args:
            student: raw outputs of its head, as its host's ``heads`` gives them.
            teacher: the same, constant.

        Returns:
            Scalar.
        """
        return self.between(self.student_head.logits(student), self.teacher_head.logits(teacher))

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of logits (B, places, classes)."""
        if student.shape != teacher.shape:
            raise ValueError(
                f"the student's head gives logits {tuple(student.shape)} (samples, places, classes), the teacher's "
                f'{tuple(teacher.shape)}; both need the same grid and classes'
            )
        target = teacher.argmax(2)
        both = (z.gather(2, target[..., None])[..., 0].sigmoid() for z in (student.detach(), teacher))
        used = sum(p >= self.score_thr for p in both) > 0
        rows = self.divergence(student[used], teacher[used], target[used], **self.settings)
        return mean_over_samples(rows, used.nonzero()[:, 0], len(student))

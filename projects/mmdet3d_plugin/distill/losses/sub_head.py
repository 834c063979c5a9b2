"""Heads of the host's own kind on earlier maps."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HeadOf
from projects.mmdet3d_plugin.distill.losses.decoupled_logits import DecoupledLogits
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step


@LOSSES.register_module()
class SubHead(DistillLoss):
    """A sub-head (deep supervision, "sub-heads" of voxel self-distillation): another head like the host's, for training.

    It reads the student's map through a 1x1 convolution, batch normalisation and SELU, is trained on the ground truth by
    the host's own losses, and is taught by the dense head of the teacher (the student's own under a ``SelfTeacher``):
    ``truth * L_detection + L_decoupled``. A map of another size than the teacher's output is averaged or enlarged to it,
    so that both heads have the same places.

    ``on=dict(student='scatter', teacher='heads')``; the sub-head's weights are saved as ``distill.<term>.loss``.

    Args:
        student_channels: of the map.
        student_head: gives the student's dense head, whose shape the sub-head has.
        teacher_head: gives the teacher's.
        truth: weight of the ground truth, 0 for none.
        logits: settings of :class:`DecoupledLogits`, with ``weight``; None for the ground truth alone.
    """

    takes_connector = False

    def __init__(
        self,
        student_channels: int,
        student_head: HeadOf,
        teacher_head: HeadOf,
        truth: float = 1.0,
        logits: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        settings = dict(logits or {'weight': 0.0})
        self.truth, self.weight = truth, settings.pop('weight', 1.0)
        if min(truth, self.weight) < 0 or not max(truth, self.weight):
            raise ValueError(
                f"a sub-head needs 'truth' or a weight of 'logits' above 0, got {truth} and {self.weight}"
            )
        self.host, self.teacher_head = student_head(), teacher_head()
        self.head = self.host.fresh()
        self.stem = nn.Sequential(
            nn.Conv2d(student_channels, self.host.in_channels, 1, bias=False),
            nn.BatchNorm2d(self.host.in_channels, eps=1e-3, momentum=0.01),
            nn.SELU(),
        )
        self.logits = DecoupledLogits(student_head, teacher_head, **settings) if self.weight else None

    def forward(self, student: Tensor, teacher: Any, *, step: Step) -> Tensor:
        """The sub-head's loss.

        Args:
            student: (B, C, h, w).
            teacher: raw outputs of its dense head, constant; their size is the sub-head's.
            step: gives the ground truth.

        Returns:
            Scalar.
        """
        outputs = self.outputs(student, teacher)
        loss = self.host.logits(outputs).sum() * 0
        if self.logits is not None:
            loss = loss + self.weight * self.logits(outputs, teacher)
        if self.truth:
            loss = loss + self.truth * self.host.detection_loss(self.head, outputs, step.batch)
        return loss

    def outputs(self, student: Tensor, teacher: Any) -> Any:
        """The sub-head's raw outputs, in the shape that the host's ``heads`` have; arguments as for :meth:`forward`."""
        return self.host.run(self.head, self.stem(to_size(student, self.host.map_size(teacher))))


def to_size(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N, C, h, w) to a smaller size, or enlarge it bilinearly -> (N, C, *size)."""
    if tuple(feature.shape[-2:]) == size:
        return feature
    if feature.shape[-2] >= size[0] and feature.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(feature, size)
    return F.interpolate(feature, size=size, mode='bilinear', align_corners=False)

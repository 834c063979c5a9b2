"""The base of heads that a recipe adds to the student for training."""

from typing import Any, ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap


class TrainingHead(nn.Module):
    """Reads the teacher or the student in every training step, saved as ``distill.head`` and gone at export."""

    reading: ClassVar[str]
    """Field of :class:`Step` that takes what it finds."""

    @property
    def taps(self) -> list[Tap]:
        """What it reads in the teacher."""
        return []

    @property
    def student_taps(self) -> list[Tap]:
        """What it reads in the student."""
        return []

    def forward(self, step: Step) -> tuple[Any, dict[str, Tensor]]:
        """Read one step.

        Args:
            step: with what its taps recorded in student and teacher.

        Returns:
            What it found, and the losses by which it is trained.
        """
        raise NotImplementedError

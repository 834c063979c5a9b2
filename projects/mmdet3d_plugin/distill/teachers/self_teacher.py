"""A network that teaches itself: one of its modules is the teacher of another."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter, adapter_for
from projects.mmdet3d_plugin.distill.registry import TEACHERS, DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.distill.teachers.teacher import Observation, Teacher
from projects.mmdet3d_plugin.distill.views import split_views

SECOND_STAGE = 'second_stage'
"""Short name of what a second stage that is trained along made of the student's boxes."""


@TEACHERS.register_module()
class SelfTeacher(Teacher):
    """Another module of the student's own network, read in the student's own forward pass (self-distillation).

    Its taps are the student's (a deeper map teaches an earlier one: Zhang et al., "Be Your Own Teacher", ICCV 2019; the
    dense head teaches a sub-head), and ``'second_stage'``, what the recipe's second stage made of the student's boxes
    ("voxel self-distillation"). It costs no forward pass. Its features are constants, so that no term can pull the
    teacher towards its student.

    Args:
        student: the detector that is trained.
        adapter: what knows its host; the one that is registered for its class by default.
        classes: its class names in label order.
    """

    runs_first: ClassVar[bool] = False
    trained: ClassVar[bool] = False

    def __init__(
        self,
        student: nn.Module,
        adapter: HostAdapter | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.model, self.adapter = student, adapter or adapter_for(student)
        self.classes = None if classes is None else list(classes)

    def observe(self, batch: Mapping[str, Any], taps: Sequence[Tap], device: torch.device) -> Observation:
        """Nothing yet: the student has not run."""
        return Observation({}, None, split_views(batch, self.view)[1])

    def within(self, taps: Sequence[Tap]) -> list[Tap]:
        """All of them, but for the second stage, which runs when the student has."""
        return [tap for tap in taps if tap.path != SECOND_STAGE]

    def features_within(self, step: Step, taps: Sequence[Tap]) -> dict[str, Any]:
        """What the taps recorded in the student, and the second stage's refined boxes, by path."""
        found = {tap.path: step.student[tap.path] for tap in self.within(taps)}
        if any(tap.path == SECOND_STAGE for tap in taps):
            if step.refined is None:
                raise DistillError(
                    f'a term reads the {SECOND_STAGE!r} of the student, which has none; add '
                    "head=dict(type='SecondStage', ...) to 'distiller'"
                )
            found[SECOND_STAGE] = step.refined
        return found

    def taps(self, on: str) -> list[Tap]:
        """The places of a short name or of a module path of the student, or the student's second stage."""
        if on == SECOND_STAGE and on not in self.adapter.aliases(self.model):
            return [Tap(SECOND_STAGE)]
        return super().taps(on)

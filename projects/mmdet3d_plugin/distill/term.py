"""One distillation term: where to look, how to align, where it matters, how to compare, how much it counts."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.precision import at_least_float32
from projects.mmdet3d_plugin.distill.bev_grid import Range, place_bev, shared_frame
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions.region import Region
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step, covering
from projects.mmdet3d_plugin.distill.taps import Tap, map_tensors, tensors_of

logger = logging.getLogger('focaldistiller')


def _within(feature: Tensor, covered: Tensor) -> Tensor:
    """A map (B, C, H, W), 0 outside what is covered, (B, 1, h, w)."""
    return feature * F.interpolate(covered, size=feature.shape[-2:])


Schedule = Sequence[tuple[float, float]]
ZERO_STEPS = 50
"""Steps in a row with nothing to compare after which a term says so."""


class Term(nn.Module):
    """One thing the student learns from the teacher, computed in fp32.

    Args:
        student: where the student is tapped.
        teacher: where the teacher is tapped; None for a loss that does not look at its features.
        loss: compares the two.
        connector: makes the student's feature comparable, ``(feature, size) -> feature``.
        region: ``(step, teacher_feature) -> (N, 1, H, W)`` weights, or None.
        weight: factor of the loss, >= 0.
        schedule: ``[(epoch, factor), ...]``, linear in between, constant outside; empty for no schedule. Epochs are
            counted in fractions, step by step: 0.5 is the middle of the first.
        name: of the term, for messages.
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres that both BEV maps are cut to before they are compared; None
            compares them whole.
        taught_by: name of the teacher, in recipes of several.
    """

    def __init__(
        self,
        student: Tap,
        teacher: Tap | None,
        loss: DistillLoss,
        connector: nn.Module,
        region: Region | None = None,
        weight: float = 1.0,
        schedule: Schedule = (),
        name: str = '',
        limits: Range | None = None,
        taught_by: str = '',
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.limits = student, teacher, limits
        self.loss, self.connector, self.region = loss, connector, region
        self.weight, self.schedule = weight, tuple(schedule)
        self.name, self.taught_by = name, taught_by
        self._steps, self._said = 0, False
        self._found: Tensor | None = None

    def forward(self, step: Step) -> Tensor:
        """Weighted loss of one step, a scalar."""
        step = step.seen_by(self.taught_by)
        student, teacher = self._read(step)
        step = self._narrowed(step)
        compared = (student,) if self.teacher is None else (student, teacher)
        with torch.autocast(tensors_of(compared)[0].device.type, enabled=False):
            context: dict[str, Any] = {}
            if self.region is not None and 'region' in self.loss.context:
                context['region'] = self._where(step, compared[-1])
            if self.region is not None and 'background' in self.loss.context:
                context['background'] = self.region.background(step, compared[-1])
            if 'step' in self.loss.context:
                context['step'] = step
            loss = self.loss(*compared, **context)
            self._notice_zero(loss)
            return loss * self.weight_at(step.epoch)

    def features(self, step: Step) -> tuple[Any, Any]:
        """What is compared: the student's feature, through the connector, and the teacher's, a constant, if it is read."""
        return self._read(step.seen_by(self.taught_by))

    def maps(self, step: Step) -> tuple[Any, Any]:
        """What is compared before the connector: BEV maps of the student (B, C, H, W) and of the teacher (B, D, h, w) on the
        same metres, in :attr:`frame`."""
        return self._recorded(step.seen_by(self.taught_by))

    def area(self, step: Step, like: Tensor) -> Tensor | None:
        """The region's weights (N, 1, H, W) at the resolution of what is compared (N, C, H, W); None without a region."""
        if self.region is None:
            return None
        return self._where(self._narrowed(step.seen_by(self.taught_by)), like)

    @property
    def frame(self) -> str:
        """In which BEV maps of student and teacher are compared, 'lidar' or 'ego'."""
        return shared_frame(self.student.grid, self.teacher.grid) or 'lidar'

    def _read(self, step: Step) -> tuple[Any, Any]:
        """What is compared in the step of the term's own teacher."""
        student, teacher = self._recorded(step)
        if teacher is None or not self.loss.takes_connector:
            return student, teacher
        with torch.autocast(teacher.device.type, enabled=False):
            size = tuple(teacher.shape[-2:])
            if next(self.connector.parameters(), None) is not None:
                return self.connector(student, size), teacher
            tap = self.student
            key = (tap.path, tap.level, tap.size, repr(self.connector), size, str(self.limits))
            if key not in step.cache:  # terms that resize one feature alike share the result
                step.cache[key] = self.connector(student, size)
            return step.cache[key], teacher

    def _recorded(self, step: Step) -> tuple[Any, Any]:
        """The same before the connector."""
        student = map_tensors(at_least_float32, self.student.convert(step.student[self.student.path]))
        if self.teacher is None:
            return student, None
        teacher = map_tensors(at_least_float32, self.teacher.convert(step.teacher[self.teacher.path]))
        if not self.loss.takes_connector:
            return student, teacher
        if not isinstance(teacher, Tensor):
            raise DistillError(
                f'{type(self.loss).__name__} compares maps, but {self.teacher.path!r} of the teacher gives '
                f'a {type(teacher).__name__}; tap a map, or take a loss that reads it'
            )
        with torch.autocast(teacher.device.type, enabled=False):
            if self.limits is not None:
                student, teacher = (
                    self._placed(student, self.student, step),
                    self._placed(teacher, self.teacher, step),
                )
                if (covered := self._covered(step, teacher)) is not None:
                    student, teacher = _within(student, covered), _within(teacher, covered)
        return student, teacher

    def _narrowed(self, step: Step) -> Step:
        """The same step with a batch that covers what is compared, in which regions are drawn."""
        if self.limits is None or not self.loss.takes_connector:
            return step
        metas = covering(step.batch['img_metas'], self.limits)
        align = partial(self._placed, tap=self.teacher, step=step)
        return replace(step, batch={**step.batch, 'img_metas': metas}, align=align)

    def _placed(self, feature: Tensor, tap: Tap, step: Step) -> Tensor:
        """A BEV map of student or teacher (B, C, H, W) on what is compared."""
        return place_bev(feature, tap.grid, self.limits, self.frame, step.batch['img_metas'])

    def _covered(self, step: Step, like: Tensor) -> Tensor | None:
        """Where both maps have something, (B, 1, H, W); None where that is everywhere, since both lie in one frame."""
        if self.limits is None or self.student.grid.frame == self.teacher.grid.frame:
            return None
        turned = self.student if self.student.grid.frame != 'lidar' else self.teacher
        inside = self._placed(like.new_ones(len(like), 1, *like.shape[-2:]), turned, step)
        return F.interpolate((inside > 0.5).to(like), size=like.shape[-2:])

    def _where(self, step: Step, like: Tensor) -> Tensor:
        """The region's weights (N, 1, H, W), 0 where a map has nothing."""
        weights, covered = self.region(step, like), self._covered(step, like)
        return weights if covered is None else weights * covered

    @property
    def needs_queries(self) -> bool:
        """Whether the recipe must have a distillation head."""
        return self.loss.needs_queries or (self.region is not None and self.region.needs_queries)

    def weight_at(self, epoch: float) -> float:
        """The weight times the schedule's factor at an epoch.

        Example:
            >>> from projects.mmdet3d_plugin.distill.connectors import Identity
            >>> from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2
            >>> term = Term(Tap('a'), Tap('a'), FeatureL2(), Identity(), weight=4.0, schedule=[(0, 0.0), (2, 1.0)])
            >>> term.weight_at(0.5)
            1.0
        """
        if not self.schedule:
            return self.weight
        epochs, factors = zip(*self.schedule, strict=True)
        return self.weight * float(np.interp(epoch, epochs, factors))

    def _notice_zero(self, loss: Tensor) -> None:
        """Say once that a term has had nothing to compare for many steps; the log shows it as a plain 0.

        What is found is kept on the device and looked at every :data:`ZERO_STEPS` steps, so that no step waits for it.
        """
        if self._said:
            return
        found = loss.detach() != 0
        self._found = found if self._found is None else self._found | found
        self._steps += 1
        if self._steps % ZERO_STEPS:
            return
        self._said, self._found = not bool(self._found), None
        if self._said:
            logger.warning(
                'the term %r was exactly 0 in %d steps in a row: it found nothing to compare (no ground truth, or no '
                'query of the teacher above min_score: a teacher that is trained longer, or a lower min_score)',
                self.name,
                ZERO_STEPS,
            )

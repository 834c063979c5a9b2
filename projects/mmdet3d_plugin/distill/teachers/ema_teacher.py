"""A running average of the student as its teacher."""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter, adapter_for
from projects.mmdet3d_plugin.distill.registry import TEACHERS, DistillError
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.distill.teachers.teacher import Observation, Teacher
from projects.mmdet3d_plugin.distill.views import split_views

logger = logging.getLogger('focaldistiller')
STEPS_UNMOVED = 100
"""Steps of training without an update of the student after which the teacher says so."""


class RunningAverage(nn.Module):
    """A copy of a detector whose weights follow it slowly; always in ``eval()`` and without gradient.

    Args:
        model: what is averaged, as it is now.
        momentum: share of the average that one update keeps, in the long run.
    """

    def __init__(self, model: nn.Module, momentum: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer('updates', torch.zeros((), dtype=torch.long))
        self.train(False)

    def train(self, mode: bool = True) -> 'RunningAverage':
        """Stay in ``eval()``, whatever becomes of the distiller around it."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take one step towards a model of the same shape.

        The first updates are their plain mean, the very first a copy: an average that began at initial weights would
        remember them for ``1 / (1 - momentum)`` steps. Buffers that are whole numbers are copied.
        """
        share = max(1 / (int(self.updates) + 1), 1 - self.momentum)
        source = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        for name, mine in own.items():
            if mine.is_floating_point():
                mine.lerp_(source[name], share)
            else:
                mine.copy_(source[name])
        self.updates += 1


@TEACHERS.register_module()
class EMATeacher(Teacher):
    """The exponential moving average of the student's weights and of its buffers (Tarvainen and Valpola, 2017).

    ``average = m * average + (1 - m) * student`` after every update of the student, of which a training loop tells the
    distiller (:meth:`Distiller.after_update`). The average is saved as ``distill.teacher``; a run that is resumed goes on
    to the bit, and an exported student is without it.

    Args:
        student: the detector that is trained.
        momentum: m; the first updates use ``min(m, n / (n + 1))``.
        adapter: what knows its host; the one that is registered for its class by default.
        classes: its class names in label order.
    """

    trained: ClassVar[bool] = False

    def __init__(
        self,
        student: nn.Module,
        momentum: float = 0.999,
        adapter: HostAdapter | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise DistillError(f'the momentum of an EMATeacher must lie in [0, 1), got {momentum}')
        self._student = student
        self._average = RunningAverage(student, momentum)
        self._unmoved = 0  # steps of training since the student was updated
        self.adapter = adapter or adapter_for(student)
        self.classes = None if classes is None else list(classes)

    @property
    def model(self) -> nn.Module:
        """The average."""
        return self._average.model

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The average and how many updates went into it."""
        return {'teacher': self._average}

    def follow(self) -> None:
        """Take one step towards the student as it is now."""
        self._average.follow(self._student)
        self._unmoved = 0

    @torch.no_grad()
    def observe(self, batch: Mapping[str, Any], taps: Sequence[Tap], device: torch.device) -> Observation:
        """Run the average; see the base class."""
        if not self._average.updates:  # the student had no weights yet when the teacher was built
            self.follow()
        self._unmoved += self._student.training
        if self._unmoved == STEPS_UNMOVED:
            logger.warning(
                'the average of the student has not moved for %d steps: a training loop of your own must call '
                'after_update() of the distiller when the optimizer has stepped',
                STEPS_UNMOVED,
            )
        return self._run(split_views(batch, self.view)[1], taps)

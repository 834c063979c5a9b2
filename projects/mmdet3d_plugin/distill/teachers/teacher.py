"""What a distiller may ask of whoever teaches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections, HostAdapter
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Recorder, Tap


class Observation(NamedTuple):
    """What a teacher saw of one batch: features by module path, raw predictions, and the batch of the current frame."""

    features: dict[str, Any]
    predictions: Any
    batch: Batch


class Teacher:
    """Gives constants that a student is compared with.

    A teacher answers before the student has run (:meth:`observe`), from the student's own forward pass
    (:meth:`features_within`), or both. That no answer carries gradient is the distiller's business, not the teacher's. It
    is no ``nn.Module``; what it owns and a checkpoint must keep is in :attr:`parts`.
    """

    model: nn.Module
    """The detector that answers."""
    adapter: HostAdapter
    """What knows its host."""
    classes: list[str] | None
    """Its class names in label order, None where they are not known."""
    cfg: Config | None = None
    """Its config, whose test pipeline says what it sees; None for a teacher that sees what the student sees."""
    view: str = 'same'
    """What it sees, see :func:`~projects.mmdet3d_plugin.distill.views.split_views`."""
    checkpoint: str | None = None
    """File of its weights."""
    sha256: str | None = None
    """Of that file."""

    runs_first: ClassVar[bool] = True
    """Whether it answers before the student runs, so that its boxes may be targets and its queries may be read."""
    trained: ClassVar[bool] = True
    """Whether it has weights of its own, from which a student may start."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """Modules of its own that are saved as ``distill.<name>.*`` and gone from an exported student."""
        return {}

    def require_trained(self, part: str) -> None:
        """Refuse an initializer, by its name, that would copy weights which the teacher does not have.

        Raises:
            DistillError: the teacher is as new as the student.
        """
        if not self.trained:
            raise DistillError(
                f'{part} starts a student from a trained teacher, and a {type(self).__name__} is none; leave it out'
            )

    def require_first_run(self, part: str) -> None:
        """Refuse a part of a recipe that needs an answer before the student runs.

        Raises:
            DistillError: the teacher answers only then.
        """
        if not self.runs_first:
            raise DistillError(
                f'{part} asks the teacher before the student runs, and a {type(self).__name__} answers only then; '
                'leave it out'
            )

    def observe(self, batch: Mapping[str, Any], taps: Sequence[Tap], device: torch.device) -> Observation:
        """Look at a batch before the student does.

        Args:
            batch: a collated batch with the teacher's view, see :func:`split_views`.
            taps: what to record.
            device: where the student lives; the teacher follows it.
        """
        raise NotImplementedError(f'{type(self).__name__}: implement observe()')

    def within(self, taps: Sequence[Tap]) -> list[Tap]:
        """Which of the teacher's taps lie in the student's own forward pass."""
        return []

    def follow(self) -> None:
        """The student's weights were updated."""

    def features_within(self, step: Step, taps: Sequence[Tap]) -> dict[str, Any]:
        """Features of the student's own forward pass that teach, by path; they may be live, the distiller stops gradients.

        Args:
            step: with what the student's taps recorded and what the recipe's head found.
            taps: what terms read in the teacher.
        """
        return {}

    @torch.no_grad()
    def detect(self, observation: Observation) -> list[Detections]:
        """Final boxes of a batch that was observed, one entry per sample; nothing is computed twice."""
        return self.adapter.detect(self.model, observation.batch, observation.predictions)

    def taps(self, on: str) -> list[Tap]:
        """The places of a short name or of a module path of the teacher."""
        return self.adapter.taps(self.model, on)

    def meta(self) -> dict[str, Any]:
        """What a checkpoint should remember about the teacher."""
        return {
            'type': type(self).__name__,
            'checkpoint': self.checkpoint and Path(self.checkpoint).name,
            'sha256': self.sha256,
            'view': self.view,
        }

    def _run(self, own: Batch, taps: Sequence[Tap]) -> Observation:
        """Run the model, which must be in ``eval()``, on its view of a batch."""
        current = self.adapter.prepare(self.model, own)
        self._require_eval()
        with Recorder(self.model, taps) as recorder:
            predictions = self.adapter.infer(self.model, current)
        self._require_eval()
        return Observation(recorder.pop(), predictions, current)

    def _require_eval(self) -> None:
        for name, module in self.model.named_modules():
            if module.training:
                raise DistillError(
                    f"the teacher's {name or type(module).__name__!r} is in training mode: its host called train(); "
                    'restore the previous mode there instead'
                )

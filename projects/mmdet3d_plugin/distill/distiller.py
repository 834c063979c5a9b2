"""Train a student under a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.rng import untouched_rng
from projects.mmdet3d_plugin.distill.configs import classes_of
from projects.mmdet3d_plugin.distill.distillation_head import build_head
from projects.mmdet3d_plugin.distill.guards import merge, require_agreement, require_gradient
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.registry import INITIALIZERS, TEACHERS, DistillError, build_part, nearest
from projects.mmdet3d_plugin.distill.state_names import load_any_names, save_plain_names
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Recorder, tensors_of
from projects.mmdet3d_plugin.distill.targets import build_targets, change_targets
from projects.mmdet3d_plugin.distill.teacher import FrozenTeacher
from projects.mmdet3d_plugin.distill.term import HEAD, build_terms, require_head
from projects.mmdet3d_plugin.distill.views import split_views

RECIPE_KEYS = ('type', 'teacher', 'terms', 'head', 'targets', 'initialize', 'debug')


class Distiller(nn.Module):
    """A detector that learns from the ground truth and from an expert.

    Args:
        student: the apprentice; all that is kept after training.
        teacher: the expert; not a part of this module.
        terms: what is taught, as configs, see :func:`build_terms`; none for a student that only starts from the teacher.
        head: arguments of :class:`DistillationHead`, whose queries say where it matters; None for a recipe without.
        targets: how the teacher's detections change the student's ground truth, as configs; terms see the original.
        initialize: how the student starts from the teacher, as configs.
        classes: the student's class names, compared with the teacher's.
        debug: check in every step that every term reaches the student.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: FrozenTeacher,
        terms: Sequence[Mapping] | Mapping[str, Mapping],
        head: Mapping | None = None,
        targets: Sequence[Mapping] = (),
        initialize: Sequence[Mapping] = (),
        classes: Sequence[str] | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.adapter = adapter_for(student)
        self.distill = build_terms(terms, lambda on: self.adapter.taps(student, on), teacher.taps)
        self.terms = list(self.distill)
        if head is not None:
            self.distill[HEAD] = build_head(head, teacher)
        require_head(self.distill)
        self.targets = build_targets(targets)
        self.initializers = [build_part(INITIALIZERS, cfg, "'initialize'") for cfg in initialize]
        self.debug = debug
        self.epoch = 0
        require_agreement(student, teacher, classes)
        self._register_state_dict_hook(save_plain_names)
        self._register_load_state_dict_pre_hook(load_any_names, with_module=True)

    def forward(self, return_loss: bool = True, **batch: Any) -> Any:
        """Losses of a training batch, or the student's detections."""
        return self.forward_train(**batch) if return_loss else self.forward_test(**batch)

    def forward_train(self, **batch: Any) -> dict[str, Any]:
        """One step of the figure: the expert looks, the apprentice looks, the terms compare.

        Args:
            batch: a collated batch; ``teacher_*`` keys are the teacher's view of it.

        Returns:
            The student's losses and one ``loss_kd_<term>`` per term.
        """
        losses, step = self.look(batch)
        return merge(losses, {f'loss_kd_{name}': self._teach(name, step) for name in self.terms})

    def look(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], Step]:
        """What comes before the terms: the expert looks, the apprentice looks, the queries are read.

        Returns:
            The student's losses, with those of a head that is trained along, and what the terms may look at.
        """
        batch = self.adapter.share(self.student, self.teacher.model, batch)
        own, _ = split_views(batch, 'same')
        own = self.adapter.prepare(self.student, own)
        if not self.distill and not self.targets:
            return self.adapter.losses(self.student, own), Step(own, {}, {}, epoch=self.epoch)
        knowledge, predictions = self.teacher.observe(batch, self._taps('teacher'), self._device())
        taught = change_targets(self.targets, own, lambda: self.teacher.detect(batch, predictions))
        with Recorder(self.student, self._taps('student')) as recorder:
            losses = self.adapter.losses(self.student, taught)
        step = Step(own, recorder.pop(), knowledge, predictions, self.epoch)
        if HEAD in self.distill:
            step.queries, more = self.distill[HEAD](step)
            losses = merge(losses, more)
        return losses, step

    def forward_test(self, **batch: Any) -> Any:
        """The student's detections."""
        return self.student.forward_test(**split_views(batch, 'same')[0])

    def train_step(self, data: Mapping[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """mmcv's contract: total loss, values for the log, number of samples."""
        total, log_vars = self.student._parse_losses(self(**data))
        return {'loss': total, 'log_vars': log_vars, 'num_samples': len(data['img_metas'])}

    def init_weights(self) -> None:
        """Initialise the student, then let it start from the teacher where the recipe says so."""
        self.student.init_weights()
        for initializer in self.initializers:
            initializer(self.student, self.adapter, self.teacher)

    def set_epoch(self, epoch: int) -> None:
        """Tell the schedules of the terms how many epochs are finished."""
        self.epoch = epoch

    def meta(self) -> dict[str, Any]:
        """What a checkpoint should remember: the teacher's file and hash, the terms."""
        return {'teacher': self.teacher.meta(), 'terms': self.terms}

    def _taps(self, side: str) -> list[Any]:
        taps = [getattr(self.distill[name], side) for name in self.terms]
        return taps + (self.distill[HEAD].taps if side == 'teacher' and HEAD in self.distill else [])

    def _device(self) -> torch.device:
        return next(self.student.parameters()).device

    def _teach(self, name: str, step: Step) -> Tensor:
        """One term's loss, with its guards."""
        term = self.distill[name]
        tapped = tensors_of(step.student[term.student.path])
        if torch.is_grad_enabled() and not any(tensor.requires_grad for tensor in tapped):
            raise DistillError(
                f'the term {name!r} cannot teach: no gradient flows from {term.student.path!r} into the student '
                '(a frozen stage, or a module inside re-entrant gradient checkpointing)'
            )
        try:
            loss = term(step)
        except ValueError as error:
            raise DistillError(f'the term {name!r}: {error}') from error
        if self.debug and torch.is_grad_enabled():
            require_gradient(name, loss, [tensor for tensor in tapped if tensor.requires_grad])
        return loss


def build_distiller(cfg: Config) -> Distiller:
    """Build the distiller of a recipe.

    Args:
        cfg: a student's config with ``distiller=dict(type='Distiller', teacher=..., terms=[...])``.
    """
    if cfg.get('distiller') is None:
        raise DistillError("the config has no 'distiller'; train it with tools/train.py instead")
    recipe = dict(cfg.distiller)
    if recipe.pop('type', 'Distiller') != 'Distiller':
        raise DistillError(f"'distiller' must be of type 'Distiller', got {cfg.distiller.type!r}")
    for key in recipe:
        if key not in RECIPE_KEYS:
            raise DistillError(f"'distiller' takes no {key!r}; {nearest(key, RECIPE_KEYS)}")
    for key in ('teacher', 'terms'):
        if key not in recipe:
            raise DistillError(f"'distiller' needs {key!r}")
    student = build_model(cfg.get('model'))
    with untouched_rng():  # with one seed a student starts from the same weights, whatever it is taught
        teacher = build_part(
            TEACHERS, {'type': 'FrozenTeacher', **recipe.pop('teacher')}, "'distiller.teacher'"
        )
        return Distiller(student, teacher, classes=classes_of(cfg), **recipe)

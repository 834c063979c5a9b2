"""Train a student under a teacher."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmcv import Config
from mmdet.models.detectors.base import BaseDetector
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter, adapter_for
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.state_names import load_any_names, save_plain_names
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Recorder, Tap, stop_gradient, tensors_of
from projects.mmdet3d_plugin.distill.targets.teacher_labels import TeacherLabels
from projects.mmdet3d_plugin.distill.teachers.teacher import Teacher
from projects.mmdet3d_plugin.distill.term import Term
from projects.mmdet3d_plugin.distill.training_head import TrainingHead
from projects.mmdet3d_plugin.distill.views import seen_by, split_views

HEAD = 'head'
"""The head of a recipe is saved among the terms under this name, as ``distill.head``."""


class Distiller(nn.Module):
    """A detector that learns from the ground truth and from a teacher.

    Its parts come built; :func:`projects.mmdet3d_plugin.distill.recipe.build_distiller` builds them from a recipe.

    Args:
        student: the detector that is trained; all that is kept after training.
        teacher: what it imitates; no part of this module but for :attr:`Teacher.parts`. Several by name
            where terms say which of them they follow.
        terms: by name, see :func:`projects.mmdet3d_plugin.distill.recipe.build_terms`; none for a student that only
            starts from the teacher.
        head: what it reads says where it matters, or is what the student imitates; None for a recipe without.
        targets: how the teacher's detections change the student's ground truth; terms see the original. Under several
            teachers (the teacher's name, how).
        initializers: how the student starts from the teacher; under several as ``targets``.
        adapter: of the student; the one that is registered for its class by default.
        debug: check in every step that every term reaches the student, and that none reaches its teacher.
        head_teacher: whose features the head reads, under several teachers.

    Raises:
        DistillError: a term needs a distillation head, and there is none, or it reads another teacher; or what is compared
            lies in two worlds.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | Mapping[str, Teacher],
        terms: Mapping[str, Term],
        head: TrainingHead | None = None,
        targets: Sequence[TeacherLabels | tuple[str, TeacherLabels]] = (),
        initializers: Sequence[Callable[..., Any] | tuple[str, Callable[..., Any]]] = (),
        adapter: HostAdapter | None = None,
        debug: bool = False,
        head_teacher: str = '',
    ) -> None:
        super().__init__()
        self.student = student
        self.teachers = dict(teacher) if isinstance(teacher, Mapping) else {'': teacher}
        self.adapter = adapter or adapter_for(student)
        for name, term in terms.items():
            if term.needs_queries and head is None:
                raise DistillError(
                    f'the term {name!r} uses the queries of a distillation head; add '
                    "head=dict(init='teacher') to 'distiller'"
                )
            if term.loss.needs_queries and term.taught_by != head_teacher:
                raise DistillError(
                    f'the term {name!r} compares features of the teacher {term.taught_by!r} where the queries of '
                    f'{head_teacher!r} look; give both one teacher'
                )
        parts = {} if head is None else {HEAD: head}
        for item in self.teachers.items():
            parts |= _named_parts(*item)
        self.distill = nn.ModuleDict({**terms, **parts})
        self.targets, self.initializers = _by_teacher(targets), _by_teacher(initializers)
        self.head_teacher, self.debug = head_teacher, debug
        self._require_one_world()
        self.epoch = 0.0
        self._register_state_dict_hook(save_plain_names)
        self._register_load_state_dict_pre_hook(load_any_names, with_module=True)

    @property
    def teacher(self) -> Teacher:
        """The only teacher, or the first of several."""
        return next(iter(self.teachers.values()))

    @property
    def teacher_configs(self) -> dict[str, Config | None]:
        """The config of each teacher by name, of an only one under ''."""
        return {name: teacher.cfg for name, teacher in self.teachers.items()}

    @property
    def terms(self) -> dict[str, Term]:
        """What is compared, by name, in the order of the recipe."""
        return {name: part for name, part in self.distill.items() if isinstance(part, Term)}

    @property
    def head(self) -> TrainingHead | None:
        """What is trained beside the student."""
        if HEAD not in self.distill:  # a ModuleDict has no get()
            return None
        return self.distill[HEAD]

    def forward(self, return_loss: bool = True, **batch: Any) -> Any:
        """Losses of a training batch, or the student's detections."""
        return self.forward_train(**batch) if return_loss else self.forward_test(**batch)

    def forward_train(self, **batch: Any) -> dict[str, Any]:
        """One step of the figure: the teacher runs, the student runs, the terms compare.

        Args:
            batch: a collated batch; ``teacher_*`` keys are the teacher's view of it.

        Returns:
            The student's losses and one ``loss_kd_<term>`` per term.
        """
        losses, step = self.run_models(batch)
        return merge_losses(losses, {f'loss_kd_{name}': self._compare(name, step) for name in self.terms})

    def run_models(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], Step]:
        """Run teacher, student and the recipe's head on a batch; the terms are not computed.

        Returns:
            The student's losses, with those of a head that is trained along, and what the terms may look at.
        """
        if len(self.teachers) == 1:
            batch = self.adapter.share_inputs(self.student, self.teacher.model, batch)
        own = self.adapter.prepare(self.student, split_views(batch, 'same')[0])
        steps = {name: self._observe(name, batch, own) for name in self.teachers if self._follows(name)}
        taught = own
        for name, target in self.targets:
            taught = target(taught, steps[name].detections)
        if self._moved_by:
            own = taught
        with Recorder(self.student, self.taps('student')) as recorder:
            losses = self.adapter.losses(self.student, taught)
        whole = steps.get('') or Step(own, {}, {}, epoch=self.epoch, by_teacher=steps)
        whole.student = recorder.pop()
        for step in steps.values():
            step.batch, step.student, step.generated = own, whole.student, whole.generated
        if self.head is not None:
            reading, more = self.head(steps[self.head_teacher])
            losses = merge_losses(losses, more)
            for step in (whole, *steps.values()):
                setattr(step, self.head.reading, reading)
        for name, step in steps.items():
            step.live = step.teacher | self.teachers[name].features_within(step, self.taps('teacher', name))
            step.teacher = stop_gradient(step.live)
        return losses, whole

    @property
    def _moved_by(self) -> str:
        """The target after which the student looks at another world than teachers that run before it did; '' for none."""
        moving = (
            type(target).__name__ for _, target in self.targets if getattr(target, 'moves_world', False)
        )
        return next(moving, '')

    def _require_one_world(self) -> None:
        """Refuse to compare a student with what a teacher saw before the world was moved."""
        readers = {f'the term {name!r}': term.taught_by for name, term in self.terms.items()}
        if self.head is not None and self.head.taps:
            readers["'distiller.head'"] = self.head_teacher
        for reader, name in readers.items() if self._moved_by else ():
            if self.teachers[name].runs_first:
                raise DistillError(
                    f'{reader} reads what the teacher saw before {self._moved_by} moved the world for the student: leave it '
                    'out, or let a SelfTeacher teach, which sees what the student sees'
                )

    def _follows(self, teacher: str) -> bool:
        """Whether any part follows a teacher, which need not run otherwise."""
        followed = {term.taught_by for term in self.terms.values()} | {name for name, _ in self.targets}
        return teacher in followed or (self.head is not None and teacher == self.head_teacher)

    def _observe(self, name: str, batch: Mapping[str, Any], own: dict[str, Any]) -> Step:
        """One teacher's step, before the student has run."""
        teacher, device = self.teachers[name], next(self.student.parameters()).device
        seen = teacher.observe(seen_by(batch, name), self.taps('teacher', name), device)
        step = Step(own, {}, seen.features, seen.predictions, self.epoch)
        step.detect = partial(teacher.detect, seen)
        return step

    def taps(self, side: str, teacher: str | None = None) -> list[Tap]:
        """What terms and head read in the 'student' or in the 'teacher'; of several in the one of that name."""
        terms = [term for term in self.terms.values() if teacher in (None, term.taught_by)]
        taps = [tap for tap in (getattr(term, side) for term in terms) if tap is not None]
        if side == 'student':
            for name, other in self.teachers.items():
                taps += other.within(self.taps('teacher', name))
            return taps + ([] if self.head is None else self.head.student_taps)
        reads = self.head is not None and teacher in (None, self.head_teacher)
        return taps + (self.head.taps if reads else [])

    def forward_test(self, **batch: Any) -> Any:
        """The student's detections."""
        return self.student.forward_test(**split_views(batch, 'same')[0])

    def train_step(self, data: Mapping[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """mmcv's contract: total loss, values for the log, number of samples."""
        parse = getattr(self.student, '_parse_losses', None) or BaseDetector._parse_losses.__get__(
            self.student
        )
        total, log_vars = parse(self(**data))
        return {'loss': total, 'log_vars': log_vars, 'num_samples': len(data['img_metas'])}

    def init_weights(self) -> None:
        """Initialise the student, then let it start from the teacher where the recipe says so."""
        self.student.init_weights()
        for name, initializer in self.initializers:
            initializer(self.student, self.adapter, self.teachers[name])

    def set_epoch(self, epoch: float) -> None:
        """Tell the schedules of the terms how many epochs are finished; 1.5 is the middle of the second."""
        self.epoch = epoch

    def after_update(self) -> None:
        """Tell the teachers that the optimizer has changed the student; every training loop calls this after a step."""
        for teacher in self.teachers.values():
            teacher.follow()

    def meta(self) -> dict[str, Any]:
        """What a checkpoint should remember: the teacher's file and hash, of several by name, and the terms."""
        found = {name: teacher.meta() for name, teacher in self.teachers.items()}
        return {'teacher': found.get('', found), 'terms': list(self.terms)}

    def _compare(self, name: str, step: Step) -> Tensor:
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
        except KeyError as error:
            if error.args[0] not in ('gt_bboxes_3d', 'gt_labels_3d'):
                raise
            raise DistillError(
                f"the term {name!r} needs 3D boxes, but the student's batch has no {error}; areas of 2D boxes are BoxArea"
            ) from None
        if self.debug and torch.is_grad_enabled():
            require_gradient(name, loss, [tensor for tensor in tapped if tensor.requires_grad])
            if term.teacher is not None:
                require_no_gradient(
                    name, loss, tensors_of(step.seen_by(term.taught_by).live[term.teacher.path])
                )
        return loss


def require_gradient(name: str, loss: Tensor, features: Sequence[Tensor]) -> None:
    """Raise when a term that is not zero sends no gradient to the tensors it taps, such as (N, C, H, W).

    Raises:
        DistillError: it sends none.
    """
    if loss.detach() == 0:
        return
    grads = torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)
    if not any(grad is not None and grad.any() for grad in grads):
        raise DistillError(
            f'the term {name!r} has the value {loss.item():.4g} but no gradient on the student'
        )


def require_no_gradient(name: str, loss: Tensor, features: Sequence[Tensor]) -> None:
    """Raise when a term sends gradient to the features of its teacher, such as (N, C, H, W), which may be live.

    Raises:
        DistillError: it does, so that the teacher would learn from its student.
    """
    live = [tensor for tensor in features if tensor.requires_grad]
    if not live or not loss.requires_grad:
        return
    grads = torch.autograd.grad(loss, live, retain_graph=True, allow_unused=True)
    if any(grad is not None and grad.any() for grad in grads):
        raise DistillError(
            f'the term {name!r} sends gradient to its teacher: its loss reads the teacher elsewhere than where the '
            "distiller gives it, or the student's place lies behind the teacher's"
        )


def _named_parts(name: str, teacher: Teacher) -> dict[str, nn.Module]:
    """What a teacher owns, by the name under which it is saved: ``teacher``, or ``teacher_<name>`` of several."""
    return {f'{key}_{name}' if name else key: part for key, part in teacher.parts.items()}


def _by_teacher(parts: Sequence[Any]) -> list[tuple[str, Any]]:
    """Every part with the name of its teacher, '' where there is one teacher."""
    return [part if isinstance(part, tuple) else ('', part) for part in parts]


def merge_losses(losses: Mapping[str, Any], more: Mapping[str, Tensor]) -> dict[str, Any]:
    """Losses of the student and of the terms in one dict.

    Raises:
        DistillError: one name twice.
    """
    doubled = sorted(set(losses) & set(more))
    if doubled:
        raise DistillError(
            f"the loss {doubled[0]!r} exists in the student already; give the term another 'name'"
        )
    return {**losses, **more}

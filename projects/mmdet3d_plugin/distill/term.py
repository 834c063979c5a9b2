"""One distillation term: where to look, how to align, where it matters, how to compare, how much it counts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.connectors import build_connector
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions import Region
from projects.mmdet3d_plugin.distill.registry import (
    LOSSES,
    REGIONS,
    DistillError,
    build_part,
    find_type,
    nearest,
)
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap, map_tensors, tensors_of

Schedule = Sequence[tuple[float, float]]
HEAD = 'head'
"""The distillation head lives among the terms under this name, so that it is saved as ``distill.head``."""
_OWN_KEYS = ('type', 'on', 'name', 'weight', 'connector', 'region', 'schedule', 'clone')


class Term(nn.Module):
    """One thing the student is taught, computed in fp32.

    Args:
        student: where the student is tapped.
        teacher: where the teacher is tapped.
        loss: compares the two.
        connector: makes the student's feature comparable, ``(feature, size) -> feature``.
        region: ``(step, teacher_feature) -> (N, 1, H, W)`` weights, or None.
        weight: factor of the loss, >= 0.
        schedule: ``[(epoch, factor), ...]``, linear in between, constant outside; empty for no schedule.
    """

    def __init__(
        self,
        student: Tap,
        teacher: Tap,
        loss: DistillLoss,
        connector: nn.Module,
        region: Region | None = None,
        weight: float = 1.0,
        schedule: Schedule = (),
    ) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.loss, self.connector, self.region = loss, connector, region
        self.weight, self.schedule = weight, tuple(schedule)

    def forward(self, step: Step) -> Tensor:
        """Weighted loss of one step, a scalar."""
        pupil, expert = self.features(step)
        with torch.autocast(tensors_of(expert)[0].device.type, enabled=False):
            region = None if self.region is None else self.region(step, expert)
            extra: dict[str, Any] = {'step': step} if self.loss.reads_step else {}
            if self.loss.takes_background and self.region is not None:
                extra['background'] = self.region.background(step, expert)
            return self.loss(pupil, expert, region, **extra) * self.weight_at(step.epoch)

    def features(self, step: Step) -> tuple[Any, Any]:
        """What is compared: the student's feature, through the connector, and the teacher's, a constant."""
        pupil = map_tensors(_at_least_fp32, self.student.read(step.student[self.student.path]))
        expert = self.teacher.read(step.teacher[self.teacher.path])
        expert = map_tensors(lambda tensor: _at_least_fp32(tensor.detach()), expert)
        if not self.loss.takes_connector:
            return pupil, expert
        with torch.autocast(tensors_of(expert)[0].device.type, enabled=False):
            return self.connector(pupil, self._map_size(expert)), expert

    @property
    def needs_queries(self) -> bool:
        """Whether the recipe must have a distillation head."""
        return self.loss.needs_queries or (self.region is not None and self.region.needs_queries)

    def _map_size(self, expert: Any) -> tuple[int, int]:
        """(H, W) of the teacher's map (N, C, H, W)."""
        if not isinstance(expert, Tensor):
            raise DistillError(
                f'{type(self.loss).__name__} compares maps, but {self.teacher.path!r} of the teacher gives '
                f'a {type(expert).__name__}; tap a map, or take a loss that reads it'
            )
        return tuple(expert.shape[-2:])

    def weight_at(self, epoch: float) -> float:
        """The weight times the schedule's factor at an epoch."""
        return self.weight * schedule_factor(self.schedule, epoch)


def schedule_factor(schedule: Schedule, epoch: float) -> float:
    """Piecewise linear factor at an epoch; 1 without a schedule.

    Example:
        >>> schedule_factor([(0, 0.0), (2, 1.0)], 1)
        0.5
    """
    if not schedule:
        return 1.0
    before = [point for point in schedule if point[0] <= epoch]
    after = [point for point in schedule if point[0] > epoch]
    if not before or not after:
        return float(before[-1][1] if before else after[0][1])
    (x0, y0), (x1, y1) = before[-1], after[0]
    return float(y0 + (y1 - y0) * (epoch - x0) / (x1 - x0))


def _at_least_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def build_terms(
    cfgs: Sequence[Mapping] | Mapping[str, Mapping], student_taps: Any, teacher_taps: Any
) -> nn.ModuleDict:
    """Build the terms of a recipe; one that listens to several places becomes one term per place.

    Terms of weight 0 are left out, so that no part exists that gets no gradient.

    Args:
        cfgs: configs as in a recipe: ``dict(type=<loss>, on=..., weight=..., <arguments of the loss>)``, as a list or by
            name; recipes that give names can be changed key by key in recipes that inherit them.
        student_taps: ``str -> list[Tap]`` on the student.
        teacher_taps: ``str -> list[Tap]`` on the teacher.

    Returns:
        Terms by name. An unknown or doubled name, type or argument raises :class:`DistillError`.
    """
    terms: dict[str, Term] = {}
    if isinstance(cfgs, Mapping):
        cfgs = [{'name': name, **cfg} for name, cfg in cfgs.items()]
    for cfg in cfgs:
        name = _name_of(cfg)
        pairs = _pair_taps(cfg, name, student_taps, teacher_taps)
        for i, (pupil, expert) in enumerate(pairs):
            full = f'{name}_{i}' if len(pairs) > 1 else name
            if full in terms:
                raise DistillError(f"two terms are called {full!r}; give one of them another 'name'")
            terms[full] = _build_term(cfg, full, pupil, expert)
    terms = {name: term for name, term in terms.items() if term.weight > 0}
    _connect(terms)
    return nn.ModuleDict(terms)


def _connect(terms: Mapping[str, Term]) -> None:
    """Let generating terms know whose features others compare; raise where there is no such earlier term."""
    generators: dict[str, DistillLoss] = {}
    for name, term in terms.items():
        of = term.loss.of
        if of is not None and of not in generators:
            raise DistillError(
                f'the term {name!r} compares what {of!r} generates, but no earlier term of that name does; '
                f'{nearest(of, generators)}'
            )
        if of is not None:
            generators[of].readers += (term.loss,)
        if term.loss.generates:
            generators[name] = term.loss


def require_head(terms: nn.ModuleDict) -> None:
    """Raise when a term asks for queries in a recipe without a distillation head."""
    for name, term in terms.items():
        if HEAD not in terms and term.needs_queries:
            raise DistillError(
                f'the term {name!r} uses the queries of a distillation head; add '
                "head=dict(init='teacher') to 'distiller'"
            )


def _name_of(cfg: Mapping) -> str:
    """A term's name: given, or the loss's class name in snake_case."""
    if 'type' not in cfg:
        raise DistillError(f"the term {dict(cfg)} has no 'type': name a loss")
    kind = find_type(LOSSES, cfg['type'], 'a term')
    name = cfg.get('name') or re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', kind.__name__).lower()
    if not re.fullmatch(r'[A-Za-z]\w*', name) or hasattr(nn.ModuleDict, name) or name == HEAD:
        raise DistillError(
            f'{name!r} cannot name a term; use letters, digits and underscores, and not {HEAD!r}'
        )
    return name


def _pair_taps(cfg: Mapping, name: str, student_taps: Any, teacher_taps: Any) -> list[tuple[Tap, Tap]]:
    """Where a term listens: ``on='...'`` for both, or ``on=dict(student='...', teacher='...')``."""
    if 'on' not in cfg:
        raise DistillError(f"the term {name!r} has no 'on': say which feature it compares")
    on = cfg['on']
    if isinstance(on, Mapping) and set(on) != {'student', 'teacher'}:
        raise DistillError(f"'on' of the term {name!r} needs 'student' and 'teacher', got {sorted(on)}")
    pupil, expert = (on['student'], on['teacher']) if isinstance(on, Mapping) else (on, on)
    left, right = student_taps(pupil), teacher_taps(expert)
    if len(left) != len(right):
        raise DistillError(
            f'the term {name!r} taps {len(left)} places of the student, {len(right)} of the teacher'
        )
    return list(zip(left, right, strict=True))


def _build_term(cfg: Mapping, name: str, student: Tap, teacher: Tap) -> Term:
    weight, schedule = _check_weight(cfg, name)
    loss_cfg = {key: value for key, value in cfg.items() if key not in _OWN_KEYS or key == 'type'}
    known = {'channels': teacher.channels, 'student_channels': student.channels, 'name': name}
    known = {key: value for key, value in known.items() if value is not None}
    loss = build_part(LOSSES, loss_cfg, f'the term {name!r}', **known)
    region = None
    if cfg.get('region') is not None:
        if not loss.takes_region:
            raise DistillError(f'the term {name!r}: {type(loss).__name__} takes no region; remove it')
        region = build_part(REGIONS, cfg['region'], f'the region of the term {name!r}')
        if not isinstance(region, Region):
            raise DistillError(
                f'the region of the term {name!r}: {type(region).__name__} must derive from Region'
            )
    if cfg.get('connector') is not None and not loss.takes_connector:
        raise DistillError(f'the term {name!r}: {type(loss).__name__} takes no connector; remove it')
    connector = build_connector(cfg.get('connector'), student, teacher, f'the connector of the term {name!r}')
    student = replace(student, clone=student.clone or cfg.get('clone', False))
    return Term(student, teacher, loss, connector, region, weight, schedule)


def _check_weight(cfg: Mapping, name: str) -> tuple[float, Schedule]:
    """A term's weight and schedule, or a clear error."""
    weight = cfg.get('weight', 1.0)
    if not isinstance(weight, int | float) or not 0 <= weight < float('inf'):
        raise DistillError(f'the weight of the term {name!r} must be a finite number >= 0, got {weight!r}')
    schedule = [tuple(point) for point in cfg.get('schedule') or ()]
    epochs = [point[0] for point in schedule]
    if any(len(point) != 2 or point[1] < 0 for point in schedule) or epochs != sorted(set(epochs)):
        raise DistillError(f'the schedule of the term {name!r} must be [(epoch, factor >= 0), ...] in order')
    return float(weight), schedule

"""Build a distiller from a recipe: its parts, and the checks that need both detectors."""

import itertools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mmcv import Config
from mmcv.utils import Registry
from torch import nn

from projects.mmdet3d_plugin.common.config import config_classes
from projects.mmdet3d_plugin.common.models import build_model, init_model
from projects.mmdet3d_plugin.common.rng import untouched_rng
from projects.mmdet3d_plugin.common.suggest import nearest
from projects.mmdet3d_plugin.distill.bev_grid import cropped_size, shared_frame, shared_range
from projects.mmdet3d_plugin.distill.connectors import build_connector
from projects.mmdet3d_plugin.distill.distiller import HEAD, Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import HeadOf, HostAdapter, adapter_for, require_ability
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions.region import Region
from projects.mmdet3d_plugin.distill.registry import (
    HEADS,
    INITIALIZERS,
    LOSSES,
    REGIONS,
    TARGETS,
    TEACHERS,
    DistillError,
    build_part,
    find_type,
)
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.distill.teachers.teacher import Teacher
from projects.mmdet3d_plugin.distill.term import Schedule, Term
from projects.mmdet3d_plugin.distill.views import named_teachers, with_teacher_view

logger = logging.getLogger('focaldistiller')
RECIPE_KEYS = ('type', 'teacher', 'terms', 'head', 'targets', 'initialize', 'debug')
_TAKEN = (HEAD, 'teacher')  # what else is saved below distill.
_OWN_KEYS = ('type', 'on', 'name', 'weight', 'connector', 'region', 'schedule', 'clone', 'teacher')
Teachers = Mapping[str, Teacher]


def build_training(cfg: Config) -> tuple[Distiller, Config]:
    """Everything that training a recipe needs.

    Args:
        cfg: a recipe; it is not changed.

    Returns:
        The distiller with initial weights, and a config whose training pipeline also makes the teacher's view.
    """
    distiller = build_distiller(cfg)
    init_model(distiller, cfg.model)
    return distiller, with_teacher_view(cfg, distiller.teacher_configs)


def build_distiller(cfg: Config) -> Distiller:
    """Build the distiller of a recipe.

    Args:
        cfg: a student's config with ``distiller=dict(type='Distiller', teacher=..., terms=[...])``. Several teachers have
            names, ``teacher=dict(camera=dict(...), lidar=dict(...))``; terms, head, targets and initializers say whose
            word they take, ``teacher='lidar'``, and take the first one's else.

    Raises:
        DistillError: something in the recipe is wrong or does not fit; it says what and where.
    """
    recipe = _checked(cfg)
    student = build_model(cfg.get('model'))
    with untouched_rng():  # with one seed a student starts from the same weights, whatever it is taught
        adapter, classes = adapter_for(student), config_classes(cfg)
        known = dict(student=student, classes=classes)
        teachers = _build_teachers(recipe['teacher'], known)
        for teacher in teachers.values():
            require_agreement(student, adapter, teacher, classes)
        terms = build_terms(recipe['terms'], student, teachers)
        head, head_teacher = recipe.get('head'), ''
        if head is not None:
            head_teacher, head = _whose(head, teachers, "'distiller.head'")
            known |= dict(teacher=teachers[head_teacher])
            head = build_part(HEADS, {'type': 'DistillationHead', **head}, "'distiller.head'", **known)
        targets = _build_parts(TARGETS, recipe['targets'], teachers, "'distiller.targets'")
        for name, _ in targets:
            require_ability(teachers[name].adapter, 'detect', "'distiller.targets'")
            teachers[name].require_first_run("'distiller.targets'")
        initializers = _build_parts(INITIALIZERS, recipe['initialize'], teachers, "'distiller.initialize'")
        for name, _ in initializers:
            _require_one_code(student, adapter, teachers[name])
        return Distiller(
            student,
            teachers,
            terms,
            head=head,
            targets=targets,
            initializers=initializers,
            debug=recipe['debug'],
            head_teacher=head_teacher,
        )


def _build_teachers(cfg: Mapping, known: Mapping[str, Any]) -> dict[str, Teacher]:
    """The teachers of a recipe by name, '' for an only one; each may ask for what is known of the student."""
    return {
        name: build_part(
            TEACHERS,
            {'type': 'FrozenTeacher', **one},
            f"'distiller.teacher.{name}'" if name else "'distiller.teacher'",
            **known,
        )
        for name, one in named_teachers(cfg).items()
    }


def _whose(cfg: Any, teachers: Teachers, where: str) -> tuple[str, Any]:
    """Name of the teacher that a part follows, the first one unless it says so, and its config without that."""
    if not isinstance(cfg, Mapping) or 'teacher' not in cfg:
        return next(iter(teachers)), cfg
    name = cfg['teacher']
    if '' in teachers:
        raise DistillError(
            f'{where} names the teacher {name!r}, but the recipe has one teacher without a name'
        )
    if name not in teachers:
        raise DistillError(f'{where} names the teacher {name!r}; {nearest(str(name), teachers)}')
    return name, {key: value for key, value in cfg.items() if key != 'teacher'}


def _build_parts(
    registry: Registry, cfgs: Sequence[Any], teachers: Teachers, where: str
) -> list[tuple[str, Any]]:
    """Parts with the names of their teachers."""
    named = [_whose(cfg, teachers, where) for cfg in cfgs]
    return [(name, build_part(registry, cfg, where)) for name, cfg in named]


def _checked(cfg: Config) -> dict[str, Any]:
    """The ``distiller`` of a recipe, with all that it needs and nothing that it does not take."""
    if cfg.get('distiller') is None:
        raise DistillError(
            "the config has no 'distiller', so it is no recipe: name one; tools/train.py trains a detector alone"
        )
    recipe = dict(cfg.distiller)
    if recipe.get('type', 'Distiller') != 'Distiller':
        raise DistillError(f"'distiller' must be of type 'Distiller', got {cfg.distiller.type!r}")
    for key in recipe:
        if key not in RECIPE_KEYS:
            raise DistillError(f"'distiller' takes no {key!r}; {nearest(key, RECIPE_KEYS)}")
    for key in ('teacher', 'terms'):
        if key not in recipe:
            raise DistillError(f"'distiller' needs {key!r}")
    if not isinstance(recipe['teacher'], Mapping):
        raise DistillError(
            f"'distiller.teacher' must be a dict with config and checkpoint, got {recipe['teacher']!r}"
        )
    if not isinstance(recipe['terms'], Mapping | list | tuple):
        raise DistillError(f"'distiller.terms' must be a list or a dict of terms, got {recipe['terms']!r}")
    if not isinstance(recipe.get('head') or {}, Mapping):
        raise DistillError(
            f"'distiller.head' must be a dict such as dict(init='teacher'), got {recipe['head']!r}"
        )
    for key in ('targets', 'initialize'):
        if not isinstance(recipe.setdefault(key, []), list | tuple):
            raise DistillError(f"'distiller.{key}' is {recipe[key]!r}: it must be a list")
    if not isinstance(recipe.setdefault('debug', False), bool):
        raise DistillError(f"'distiller.debug' is {recipe['debug']!r}: it must be True or False")
    return recipe


def require_agreement(
    student: nn.Module, adapter: HostAdapter, teacher: Teacher, classes: Sequence[str] | None
) -> None:
    """Same classes in the same order, boxes and cameras; otherwise heads and masks would be permuted.

    Hosts of different families compare maps and decoded boxes, never the codes of boxes, so each may have its convention.

    Raises:
        DistillError: teacher and student differ.
    """
    if classes is None or teacher.classes is None:
        whose = 'student' if classes is None else 'teacher'
        logger.warning(
            "the %s's config lists no class_names, so they cannot be compared with the other's", whose
        )
    elif list(classes) != list(teacher.classes):
        odd = sorted(set(classes) ^ set(teacher.classes))
        reason = f'{odd} are known to one only' if odd else 'the order differs'
        raise DistillError(f'teacher and student must have the same class names in the same order: {reason}')
    mine, other = adapter.box_convention(student), teacher.adapter.box_convention(teacher.model)
    if type(adapter) is type(teacher.adapter) and None not in (mine, other) and mine != other:
        raise DistillError(
            f"the student's boxes are {mine!r}, the teacher's {other!r}; give both one convention"
        )
    cameras = [a.num_cameras(model) for a, model in ((adapter, student), (teacher.adapter, teacher.model))]
    if None not in cameras and cameras[0] != cameras[1]:
        raise DistillError(
            f'the student is made for {cameras[0]} cameras, the teacher for {cameras[1]}: '
            'both look at the same frame, so give both one num_cams'
        )


def build_terms(
    cfgs: Sequence[Mapping] | Mapping[str, Mapping],
    student: nn.Module,
    teacher: Teacher | Teachers,
    adapter: HostAdapter | None = None,
) -> dict[str, Term]:
    """Build the terms of a recipe; one that reads several places becomes one term per place.

    Terms of weight 0 are left out, so that no part exists that gets no gradient.

    Args:
        cfgs: configs as in a recipe: ``dict(type=<loss>, on=..., weight=..., <arguments of the loss>)``, as a list or by
            name; recipes that give names can be changed key by key in recipes that inherit them.
        student: the detector that is trained.
        teacher: the one that is imitated, or several by name, of which a term takes the first unless it names one.
        adapter: of the student; the one that is registered for its class by default.

    Returns:
        Terms by name.

    Raises:
        DistillError: an unknown or doubled name, type or argument.
    """
    adapter = adapter or adapter_for(student)
    teachers = dict(teacher) if isinstance(teacher, Mapping) else {'': teacher}
    terms: dict[str, Term] = {}
    if isinstance(cfgs, Mapping):
        cfgs = [{'name': name, **_as_mapping(cfg, name)} for name, cfg in cfgs.items()]
    for i, cfg in enumerate(cfgs):
        name = _name_of(_as_mapping(cfg, i))
        taught_by, _ = _whose(cfg, teachers, f'the term {name!r}')
        whose = teachers[taught_by]
        heads = dict(
            student_head=partial(adapter.dense_head, student),
            teacher_head=partial(whose.adapter.dense_head, whose.model),
        )
        pairs = _pair_taps(cfg, name, lambda on: adapter.taps(student, on), whose.taps)
        for i, (ours, theirs) in enumerate(pairs):
            full = f'{name}_{i}' if len(pairs) > 1 else name
            if full in terms:
                raise DistillError(f"two terms are called {full!r}; give one of them another 'name'")
            terms[full] = _build_term(cfg, full, ours, theirs, taught_by, heads)
    terms = {name: term for name, term in terms.items() if term.weight > 0}
    _connect(terms)
    return terms


def _as_mapping(cfg: Any, which: str | int) -> Mapping:
    if not isinstance(cfg, Mapping):
        raise DistillError(f'the term {which!r} must be a dict with a type, got {cfg!r}')
    return cfg


def _name_of(cfg: Mapping) -> str:
    """A term's name: given, or the loss's class name in snake_case."""
    if 'type' not in cfg:
        raise DistillError(f"the term {dict(cfg)} has no 'type': name a loss")
    kind = find_type(LOSSES, cfg['type'], 'a term')
    name = cfg.get('name') or re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', kind.__name__).lower()
    if (
        not isinstance(name, str)
        or not re.fullmatch(r'[A-Za-z]\w*', name)
        or hasattr(nn.ModuleDict, name)
        or name in _TAKEN
    ):
        raise DistillError(
            f'{name!r} cannot name a term; use letters, digits and underscores, and none of {_TAKEN}'
        )
    return name


def _pair_taps(
    cfg: Mapping,
    name: str,
    student_taps: Callable[[str], list[Tap]],
    teacher_taps: Callable[[str], list[Tap]],
) -> list[tuple[Tap, Tap | None]]:
    """What a term reads: ``on='...'`` for both, or ``on=dict(student='...', teacher='...')``."""
    if 'on' not in cfg:
        raise DistillError(f"the term {name!r} has no 'on': say which feature it compares")
    on = cfg['on']
    if not find_type(LOSSES, cfg['type'], 'a term').reads_teacher:
        if not isinstance(on, str):
            raise DistillError(
                f"the term {name!r} reads the student alone: its 'on' names one place, got {on!r}"
            )
        return [(tap, None) for tap in student_taps(on)]
    if isinstance(on, Mapping) and set(on) != {'student', 'teacher'}:
        raise DistillError(f"'on' of the term {name!r} needs 'student' and 'teacher', got {sorted(on)}")
    ours, theirs = (on['student'], on['teacher']) if isinstance(on, Mapping) else (on, on)
    if not isinstance(ours, str) or not isinstance(theirs, str):
        raise DistillError(f"'on' of the term {name!r} must name a feature or a module, got {on!r}")
    left, right = student_taps(ours), teacher_taps(theirs)
    if len(left) != len(right):
        raise DistillError(
            f'the term {name!r} taps {len(left)} places of the student, {len(right)} of the teacher'
        )
    return list(zip(left, right, strict=True))


def _build_term(
    cfg: Mapping, name: str, student: Tap, teacher: Tap | None, taught_by: str, heads: Mapping[str, HeadOf]
) -> Term:
    """One term, its loss, region and connector."""
    weight, schedule = _check_weight(cfg, name)
    loss_cfg = {key: value for key, value in cfg.items() if key not in _OWN_KEYS or key == 'type'}
    theirs = teacher or Tap('')
    known = {'channels': theirs.channels, 'student_channels': student.channels, 'name': name}
    limits = shared_range(student.grid, theirs.grid, f'the term {name!r}')
    if limits is not None:
        known |= dict(pc_range=student.grid.pc_range, teacher_range=theirs.grid.pc_range)
    known['path'] = theirs.path or None  # of a loss that asks what queries look at
    known |= heads
    known = {key: value for key, value in known.items() if value is not None}
    loss = build_part(LOSSES, loss_cfg, f'the term {name!r}', **known)
    _check_frame(cfg, name, loss, (student, theirs), limits)
    region = None
    if cfg.get('region') is not None:
        if 'region' not in loss.context:
            raise DistillError(f'the term {name!r}: {type(loss).__name__} takes no region; remove it')
        region = build_part(REGIONS, cfg['region'], f'the region of the term {name!r}')
        if not isinstance(region, Region):
            raise DistillError(
                f'the region of the term {name!r}: {type(region).__name__} must derive from Region'
            )
    if cfg.get('connector') is not None and not loss.takes_connector:
        raise DistillError(f'the term {name!r}: {type(loss).__name__} takes no connector; remove it')
    where = f'the connector of the term {name!r}'
    connector = build_connector(
        cfg.get('connector'), _cropped(student, limits), _cropped(theirs, limits), where
    )
    clone = cfg.get('clone', False)
    if not isinstance(clone, bool):
        raise DistillError(f"'clone' of the term {name!r} is {clone!r}: it must be True or False")
    student = replace(student, clone=student.clone or clone)
    return Term(student, teacher, loss, connector, region, weight, schedule, name, limits, taught_by)


def _cropped(tap: Tap, limits: Sequence[float] | None) -> Tap:
    """A tap of the part of a BEV map that is compared."""
    if limits is None or tap.size is None:
        return tap
    size = tap.size[::-1] if tap.grid.axes == 'xy' else tap.size
    return replace(tap, size=cropped_size(size, tap.grid.pc_range, limits))


def _check_frame(
    cfg: Mapping, name: str, loss: DistillLoss, taps: tuple[Tap, Tap], limits: Sequence[float] | None
) -> None:
    """Refuse what reads boxes or queries where a map does not lie as they do."""
    student, teacher = taps
    reads = cfg.get('region') is not None or 'step' in loss.context
    frame = shared_frame(student.grid, teacher.grid)
    if reads and frame not in (None, 'lidar'):
        raise DistillError(
            f'the term {name!r} reads boxes, which lie in the LiDAR frame, but its BEV maps lie in the '
            f"{frame} frame; train with frame='lidar', or leave the region out"
        )
    frames = {grid.frame for grid in (student.grid, teacher.grid) if grid is not None}
    if len(frames) > 1 and not loss.takes_connector:
        raise DistillError(
            f"the term {name!r} compares outputs of heads, but the student's BEV lies in the {student.grid.frame} frame, "
            f"the teacher's in the {teacher.grid.frame} frame; give both one frame (model.frame)"
        )
    if limits is not None and loss.needs_queries:
        raise DistillError(
            f"the term {name!r} compares where the teacher's queries look on its BEV map, and the student's covers "
            'another range; give both one pc_range'
        )


def _require_one_code(student: nn.Module, adapter: HostAdapter, teacher: Teacher) -> None:
    """Weights that are taken over must mean the same: one box convention and, where they know them, one range
    and one unit of velocity."""
    ours, theirs = adapter.box_convention(student), teacher.adapter.box_convention(teacher.model)
    if None not in (ours, theirs) and ours != theirs:
        raise DistillError(
            f"the student's boxes are {ours!r}, the teacher's {theirs!r}: weights that are inherited ('initialize') belong "
            'to one convention'
        )
    grids = adapter.bev_grid(student), teacher.adapter.bev_grid(teacher.model)
    if None not in grids and grids[0].frame != grids[1].frame:
        raise DistillError(
            f"the student's BEV lies in the {grids[0].frame} frame, the teacher's in the {grids[1].frame} frame: weights that "
            "are inherited ('initialize') belong to one frame (model.frame)"
        )
    mine, other = adapter.head_range(student), teacher.adapter.head_range(teacher.model)
    if None not in (mine, other) and mine != other:
        raise DistillError(
            f"the student's head gives places as parts of {mine} m, the teacher's of {other} m: weights that are inherited "
            "('initialize') belong to one pc_range"
        )
    mine, other = adapter.velocity_scale(student), teacher.adapter.velocity_scale(teacher.model)
    if None not in (mine, other) and mine != other:
        raise DistillError(
            f"one unit of the student's velocities is {mine} m/s, of the teacher's {other}: weights that are inherited "
            "('initialize') belong to one velocity_scale (model.pts_bbox_head)"
        )


def _check_weight(cfg: Mapping, name: str) -> tuple[float, Schedule]:
    """A term's weight and schedule, or a clear error."""
    weight = cfg.get('weight', 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float('inf'):
        raise DistillError(f'the weight of the term {name!r} must be a finite number >= 0, got {weight!r}')
    schedule = cfg.get('schedule') or ()
    try:
        points = [(float(epoch), float(factor)) for epoch, factor in schedule]
        fits = all(math.isfinite(epoch) and 0 <= factor < float('inf') for epoch, factor in points)
        fits &= all(a[0] < b[0] for a, b in itertools.pairwise(points))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise DistillError(
            f'the schedule of the term {name!r} must be [(epoch, factor >= 0), ...] in order, got {schedule!r}'
        )
    return float(weight), points


def _connect(terms: Mapping[str, Term]) -> None:
    """Let generating terms know whose features others compare; raise where there is no such earlier term."""
    generators: dict[str, DistillLoss] = {}
    for name, term in terms.items():
        source = term.loss.generated_by
        if source is not None and source not in generators:
            raise DistillError(
                f'the term {name!r} compares what {source!r} generates, but no earlier term of that name does; '
                f'{nearest(source, generators)}'
            )
        if source is not None:
            generators[source].consumers += (term.loss,)
        if term.loss.generates:
            generators[name] = term.loss

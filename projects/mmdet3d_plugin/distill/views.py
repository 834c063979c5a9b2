"""Two views of one frame: what the student sees and what the teacher sees."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.distill.registry import DistillError

VIEWS = ('native', 'upsampled', 'same')
_PREFIX = 'teacher_'
_POINT_LOADERS = ('LoadPoints', 'LoadPointsFromFile')
_POINT_STEPS = (*_POINT_LOADERS, 'LoadSweeps', 'LoadPointsFromMultiSweeps', 'PointsRangeFilter')


def split_views(batch: Mapping[str, Any], view: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a batch into the student's and the teacher's.

    Args:
        batch: a collated batch; ``teacher_img`` (B, T, num_cams, 3, H, W) and ``teacher_img_metas`` stand for the
            teacher's ``img``, ...
        view: 'same' gives the teacher the student's tensors; the others need the teacher's own.

    Returns:
        The student's batch (no ``teacher_*`` keys) and the teacher's.
    """
    student = {key: value for key, value in batch.items() if not key.startswith(_PREFIX)}
    own = {key.removeprefix(_PREFIX): value for key, value in batch.items() if key.startswith(_PREFIX)}
    if view == 'same':
        return student, dict(student)
    if not own:
        raise DistillError(
            f"the teacher's view is {view!r} but the batch has no 'teacher_img' and no 'teacher_points'; "
            "build the data from with_teacher_view(), or set view='same' on the teacher"
        )
    return student, {**student, **own}


def named_teachers(teacher: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The teachers of a recipe by name; the only one of a recipe that names none is ''.

    Args:
        teacher: one teacher's config, or several by name, ``dict(camera=dict(config=...), lidar=dict(config=...))``.

    Raises:
        DistillError: a name cannot be part of a batch's keys.

    Example:
        >>> list(named_teachers(dict(config='a.py', checkpoint='a.pth')))
        ['']
        >>> list(named_teachers(dict(camera=dict(config='a.py'), lidar=dict(config='b.py'))))
        ['camera', 'lidar']
    """
    if (
        not teacher
        or not all(isinstance(value, Mapping) for value in teacher.values())
        or 'config' in teacher
    ):
        return {'': teacher}
    for name in teacher:
        if not re.fullmatch(r'[A-Za-z][A-Za-z0-9]*', name):
            raise DistillError(f'{name!r} cannot name a teacher; use letters and digits')
    return dict(teacher)


def view_name(teacher: str) -> str:
    """What the view of a teacher, by its name, is called: keys of a batch begin with it."""
    return _PREFIX + teacher if teacher else _PREFIX.rstrip('_')


def seen_by(batch: Mapping[str, Any], teacher: str) -> dict[str, Any]:
    """A batch with the view of one of several teachers as if it were the only one.

    Args:
        batch: ``teacher_lidar_points``, ``teacher_camera_img``, ... beside the student's keys.
        teacher: its name; '' where there is one teacher.

    Example:
        >>> seen_by(dict(img=1, teacher_camera_img=2, teacher_lidar_points=3), 'lidar')
        {'img': 1, 'teacher_points': 3}
    """
    if not teacher:
        return dict(batch)
    prefix, student = f'{view_name(teacher)}_', split_views(batch, 'same')[0]
    own = {
        _PREFIX + key.removeprefix(prefix): value for key, value in batch.items() if key.startswith(prefix)
    }
    return student | own


def add_teacher_view(
    student_pipeline: Sequence[Mapping],
    teacher_pipeline: Sequence[Mapping],
    mode: str = 'native',
    teacher: str = '',
) -> list[dict]:
    """Let a student's pipeline also make the teacher's view of the same frame, decoded and jittered once.

    A teacher that looks at points gets the cloud that its own pipeline loads, in the student's augmented world.

    Args:
        student_pipeline: transforms of the student, with one ``ImageView``.
        teacher_pipeline: transforms that the teacher was trained or tested with: one ``ImageView``, or what loads points.
        mode: 'native' = the teacher's own resize, normalisation and padding of the original image;
            'upsampled' = the student's normalised image enlarged to the teacher's scale, as published;
            'same' = the teacher takes the student's view.
        teacher: its name, among several.

    Returns:
        A new pipeline; the arguments are not changed.
    """
    if mode not in VIEWS:
        raise DistillError(f"the teacher's view must be one of {VIEWS}, got {mode!r}")
    pipeline = [copy.deepcopy(dict(step)) for step in student_pipeline]
    if mode == 'same':
        return pipeline
    place, name = _image_view(pipeline, 'student'), view_name(teacher)
    if clouds := point_steps(teacher_pipeline):
        if mode != 'native':
            raise DistillError(
                f"the teacher looks at points, which no image makes: its view is 'native', not {mode!r}"
            )
        view = dict(type='PointsView', name=name, transforms=clouds)
        return [*pipeline[: place + 1], view, *pipeline[place + 1 :]]
    own, other = pipeline[place], dict(teacher_pipeline[_image_view(teacher_pipeline, 'teacher')])
    if mode == 'native':
        view = {**copy.deepcopy(other), 'name': name}
    else:
        view = {'type': 'UpsampledView', 'name': name, 'factor': _factor(own, other)}
        view |= {key: other[key] for key in ('pad_divisor',) if key in other}
    return [*pipeline[: place + 1], view, *pipeline[place + 1 :]]


def point_steps(pipeline: Sequence[Mapping]) -> list[dict]:
    """The steps of a pipeline that make a detector's cloud of points, without what augments it; empty without points.

    Example:
        >>> test = dict(type='MultiScaleFlipAug3D', transforms=[dict(type='PointsRangeFilter'), dict(type='Collect3D')])
        >>> [step['type'] for step in point_steps([dict(type='LoadPoints'), test])]
        ['LoadPoints', 'PointsRangeFilter']
    """
    flat = [one for step in pipeline for one in (step.get('transforms') or [step])]
    kept = [copy.deepcopy(dict(step)) for step in flat if step.get('type') in _POINT_STEPS]
    return kept if any(step['type'] in _POINT_LOADERS for step in kept) else []


def _image_view(pipeline: Sequence[Mapping], whose: str) -> int:
    """Index of the one main ``ImageView``."""
    found = [i for i, step in enumerate(pipeline) if step.get('type') == 'ImageView' and not step.get('name')]
    if len(found) != 1:
        raise DistillError(
            f"the {whose}'s pipeline has {len(found)} main ImageView steps; exactly one is needed, or view='same' on the teacher"
        )
    return found[0]


def _factor(student: Mapping, teacher: Mapping) -> float:
    """How many times larger the teacher's image is than the student's."""
    if 'size' in student and 'size' in teacher:
        ratios = {big / small for big, small in zip(teacher['size'], student['size'], strict=True)}
        if len(ratios) > 1:
            raise DistillError(
                f"view='upsampled' needs one factor, but {student['size']} -> {teacher['size']} has two; use 'native'"
            )
        return ratios.pop()
    if 'size' in student or 'size' in teacher:
        raise DistillError("view='upsampled' needs both ImageViews to use 'scale', or both 'size'")
    return teacher.get('scale', 1.0) / student.get('scale', 1.0)


def with_teacher_view(cfg: Config, teacher_cfg: Config | Mapping[str, Config | None] | None) -> Config:
    """A recipe whose training pipelines also make the teacher's view; build the training data from it.

    Args:
        cfg: the recipe with ``data.train`` and ``distiller.teacher``; it is not changed.
        teacher_cfg: the teacher's config, whose test pipeline says what the teacher sees; of several by name. None for a
            teacher without one of its own, which sees what the student sees.

    Raises:
        DistillError: a pipeline does not say what its detector sees.
    """
    configs = teacher_cfg if isinstance(teacher_cfg, Mapping) else {'': teacher_cfg}
    teachers = named_teachers(cfg.distiller.teacher)
    for name, mode in ((name, one.get('view', 'native')) for name, one in teachers.items()):
        if mode != 'same' and configs[name] is not None:
            cfg = _with_view(cfg, configs[name], mode, name)
    return cfg


def _with_view(cfg: Config, teacher_cfg: Config, mode: str, name: str) -> Config:
    """A recipe whose training pipelines also make the view of one teacher."""
    if teacher_cfg.get('data') is None:
        raise DistillError(
            "the teacher's config has no 'data', so its view is unknown; add it, or set view='same'"
        )
    theirs = next(innermost_datasets(teacher_cfg.data.get('test') or teacher_cfg.data.train))
    cfg = copy.deepcopy(cfg)
    for ours in innermost_datasets(cfg.data.train):
        for whose, dataset in (('student', ours), ('teacher', theirs)):
            if 'pipeline' not in dataset:
                raise DistillError(
                    f"the {whose}'s data ({dataset.get('type')}) have no pipeline in which a view of the teacher's own could "
                    "be made; set view='same'"
                )
        ours['pipeline'] = add_teacher_view(ours['pipeline'], theirs['pipeline'], mode, name)
    return cfg

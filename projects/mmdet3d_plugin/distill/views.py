"""Two views of one frame: what the student sees and what the teacher sees."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.distill.registry import DistillError

VIEWS = ('native', 'upsampled', 'same')
_PREFIX = 'teacher_'


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
            f"the teacher's view is {view!r} but the batch has no 'teacher_img'; "
            "build the data from with_teacher_view(), or set view='same' on the teacher"
        )
    return student, {**student, **own}


def add_teacher_view(
    student_pipeline: Sequence[Mapping], teacher_pipeline: Sequence[Mapping], mode: str = 'native'
) -> list[dict]:
    """Let a student's pipeline also make the teacher's view of the same decoded and jittered images.

    Args:
        student_pipeline: transforms of the student, with one ``ImageView``.
        teacher_pipeline: transforms that the teacher was trained or tested with, with one ``ImageView``.
        mode: 'native' = the teacher's own resize, normalisation and padding of the original image;
            'upsampled' = the student's normalised image enlarged to the teacher's scale, as published;
            'same' = the teacher takes the student's view.

    Returns:
        A new pipeline; the arguments are not changed.
    """
    if mode not in VIEWS:
        raise DistillError(f"the teacher's view must be one of {VIEWS}, got {mode!r}")
    pipeline = [copy.deepcopy(dict(step)) for step in student_pipeline]
    if mode == 'same':
        return pipeline
    place = _image_view(pipeline, 'student')
    own, other = pipeline[place], dict(teacher_pipeline[_image_view(teacher_pipeline, 'teacher')])
    if mode == 'native':
        view = {**copy.deepcopy(other), 'name': 'teacher'}
    else:
        view = {'type': 'UpsampledView', 'name': 'teacher', 'factor': _factor(own, other)}
        view |= {key: other[key] for key in ('pad_divisor',) if key in other}
    return [*pipeline[: place + 1], view, *pipeline[place + 1 :]]


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


def with_teacher_view(cfg: Config, teacher_cfg: Config | None) -> Config:
    """A recipe whose training pipelines also make the teacher's view; build the training data from it.

    Args:
        cfg: the recipe with ``data.train`` and ``distiller.teacher``; it is not changed.
        teacher_cfg: the teacher's config, whose test pipeline says what the teacher sees; None for a teacher without one
            of its own, which sees what the student sees.

    Raises:
        DistillError: a pipeline does not say what its detector sees.
    """
    mode = cfg.distiller.teacher.get('view', 'native')
    if mode == 'same' or teacher_cfg is None:
        return cfg
    if teacher_cfg.get('data') is None:
        raise DistillError(
            "the teacher's config has no 'data', so its view is unknown; add it, or set view='same'"
        )
    theirs = next(innermost_datasets(teacher_cfg.data.get('test') or teacher_cfg.data.train))
    cfg = copy.deepcopy(cfg)
    for ours in innermost_datasets(cfg.data.train):
        ours['pipeline'] = add_teacher_view(ours['pipeline'], theirs['pipeline'], mode)
    return cfg

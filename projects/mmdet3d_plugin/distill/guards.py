"""What the distiller refuses: classes or boxes that differ, losses that hide one another, terms that teach nothing."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.teacher import FrozenTeacher

logger = logging.getLogger('focaldistiller')


def require_agreement(student: nn.Module, teacher: FrozenTeacher, classes: Sequence[str] | None) -> None:
    """Same classes in the same order, same box convention; otherwise heads and masks would be permuted."""
    theirs = teacher.classes
    if classes is None or theirs is None:
        logger.warning('class names of teacher and student cannot be compared: a config does not list them')
    elif list(classes) != list(theirs):
        odd = sorted(set(classes) ^ set(theirs))
        reason = f'{odd} are known to one only' if odd else 'the order differs'
        raise DistillError(f'teacher and student must have the same class names in the same order: {reason}')
    mine = adapter_for(student).box_convention(student)
    other = teacher.adapter.box_convention(teacher.model)
    if mine is not None and other is not None and mine != other:
        raise DistillError(
            f"the student's boxes are {mine!r}, the teacher's {other!r}; give both one convention"
        )


def require_gradient(name: str, loss: Tensor, features: Sequence[Tensor]) -> None:
    """Raise when a term that is not zero sends no gradient to the tensors it taps."""
    if loss.detach() == 0:
        return
    grads = torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)
    if not any(grad is not None and grad.any() for grad in grads):
        raise DistillError(
            f'the term {name!r} has the value {loss.item():.4g} but no gradient on the student'
        )


def merge(losses: dict[str, Any], more: dict[str, Tensor]) -> dict[str, Any]:
    """Losses of the student and of the terms in one dict; one name twice is an error."""
    doubled = sorted(set(losses) & set(more))
    if doubled:
        raise DistillError(
            f"the loss {doubled[0]!r} exists in the student already; give the term another 'name'"
        )
    return {**losses, **more}

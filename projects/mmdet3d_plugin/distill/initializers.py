"""Student weights from teacher weights, after the student's own initialisation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter
from projects.mmdet3d_plugin.distill.registry import INITIALIZERS, DistillError
from projects.mmdet3d_plugin.distill.teacher import FrozenTeacher

logger = logging.getLogger('focaldistiller')


@dataclass
class InheritReport:
    """What became of each of the student's weights under the head."""

    copied: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f'{len(self.copied)} weights copied from the teacher, {len(self.resized)} resized'
        text += f' ({", ".join(self.resized)})' if self.resized else ''
        text += f', {len(self.left)} left as initialised'
        return text + (f' ({", ".join(self.left)})' if self.left else '')


@INITIALIZERS.register_module()
class InheritHead:
    """Copy the teacher's detection head into the student.

    Weights are matched by name. Embeddings on a BEV grid of another size are resized bilinearly; whatever else has
    another shape keeps its initialisation and is listed in the log.

    Args:
        resize: resize embeddings on a grid; False leaves them as initialised, as upstream did.
        exclude: beginnings of names, below the head, that are not copied, such as ``'transformer.encoder'``.
    """

    def __init__(self, resize: bool = True, exclude: Sequence[str] = ()) -> None:
        self.resize = resize
        self.exclude = tuple(exclude)

    @torch.no_grad()
    def __call__(self, student: nn.Module, adapter: HostAdapter, teacher: FrozenTeacher) -> InheritReport:
        """Change the student's head in place and log what was done."""
        if not adapter.head or adapter.head != teacher.adapter.head:
            raise DistillError(
                'InheritHead needs a student and a teacher whose hosts have the same kind of head'
            )
        prefix = f'{adapter.head}.'
        source, target = teacher.model.state_dict(), student.state_dict()
        report = InheritReport()
        for name in (key for key in target if key.startswith(prefix)):
            excluded = name.removeprefix(prefix).startswith(self.exclude) if self.exclude else False
            value = None if excluded else self._value(name, source, target, student, adapter, teacher)
            (
                report.left
                if value is None
                else report.copied
                if _is(value, source, name)
                else report.resized
            ).append(name)
            if value is not None:
                target[name].copy_(value)
        if not report.copied:
            raise DistillError(
                f'no weight under {prefix!r} of the teacher fits the student; InheritHead has no use here'
            )
        logger.info('InheritHead: %s', report)
        return report

    def _value(
        self,
        name: str,
        source: dict[str, Tensor],
        target: dict[str, Tensor],
        student: nn.Module,
        adapter: HostAdapter,
        teacher: FrozenTeacher,
    ) -> Tensor | None:
        """The teacher's weight in the student's shape, or None when it does not fit."""
        value = source.get(name)
        if value is None or value.shape == target[name].shape:
            return value
        old, new = teacher.adapter.grids(teacher.model).get(name), adapter.grids(student).get(name)
        if not self.resize or old is None or new is None or value.shape[1:] != target[name].shape[1:]:
            return None
        return resize_grid(value, old, new)


def _is(value: Tensor, source: dict[str, Tensor], name: str) -> bool:
    return value is source[name]


def resize_grid(embedding: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Resize an embedding that lies on a grid of one or two axes, linearly along each.

    Args:
        embedding: (prod(old), C), rows first.
        old: (H,) or (H, W).
        new: the same number of axes.

    Returns:
        (prod(new), C).
    """
    channels = embedding.shape[1]
    grid = embedding.t().reshape(1, channels, *old)
    mode = 'linear' if len(old) == 1 else 'bilinear'
    return F.interpolate(grid, size=new, mode=mode, align_corners=False).reshape(channels, -1).t()

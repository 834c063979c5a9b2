"""Student weights from teacher weights, after the student's own initialisation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter
from projects.mmdet3d_plugin.distill.registry import INITIALIZERS, DistillError
from projects.mmdet3d_plugin.distill.teachers.teacher import Teacher

logger = logging.getLogger('focaldistiller')


@dataclass
class InheritReport:
    """What became of each of the student's weights: copied, made to fit, or left as initialised."""

    copied: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f'{len(self.copied)} weights copied from the teacher, {len(self.resized)} resized'
        return f'{text}{_listed(self.resized)}, {len(self.left)} left as initialised{_listed(self.left)}'


def _listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names in brackets."""
    more = [f'and {len(names) - most} more'] if len(names) > most else []
    return f' ({", ".join([*names[:most], *more])})' if names else ''


@INITIALIZERS.register_module()
class InheritHead:
    """Copy the teacher's detection head into the student.

    Weights are matched by their names within the head, which may have another name in another host: a BEVDepth takes the
    centre heads of a CenterPoint (DistillBEV). Embeddings on a BEV grid of another size are resized bilinearly; whatever else has
    another shape keeps its initialisation and is listed in the log.

    Args:
        resize: resize embeddings on a grid; False leaves them as initialised, as upstream did.
        exclude: beginnings of names, below the head, that are not copied, such as ``'transformer.encoder'``.
    """

    def __init__(self, resize: bool = True, exclude: Sequence[str] = ()) -> None:
        self.resize = resize
        self.exclude = tuple(exclude)

    @torch.no_grad()
    def __call__(self, student: nn.Module, adapter: HostAdapter, teacher: Teacher) -> InheritReport:
        """Change the student's head in place and log what was done."""
        teacher.require_trained('InheritHead')
        if not _alike(student, adapter, teacher):
            raise DistillError(
                f"'distiller.initialize': a {type(student).__name__} and a {type(teacher.model).__name__} have no head of one "
                'kind, so that InheritHead has nothing to copy; leave it out'
            )
        prefix, theirs = f'{adapter.head}.', f'{teacher.adapter.head}.'
        source, target = teacher.model.state_dict(), student.state_dict()
        old, new = teacher.adapter.grids(teacher.model), adapter.grids(student)
        report = InheritReport()
        for name in (key for key in target if key.startswith(prefix)):
            given = theirs + name.removeprefix(prefix)
            value, mine = source.get(given), target[name]
            if value is None or (self.exclude and name.removeprefix(prefix).startswith(self.exclude)):
                report.left.append(name)
            elif value.shape == mine.shape:
                mine.copy_(value)
                report.copied.append(name)
            elif self.resize and given in old and name in new and value.shape[1:] == mine.shape[1:]:
                mine.copy_(resize_grid(value, old[given], new[name]))
                report.resized.append(name)
            else:
                report.left.append(name)
        if not report.copied:
            raise DistillError(
                f'no weight under {prefix!r} of the teacher fits the student; InheritHead has no use here'
            )
        logger.info('InheritHead: %s', report)
        return report


def _alike(student: nn.Module, adapter: HostAdapter, teacher: Teacher) -> bool:
    """Whether heads lie at the same place of their hosts, or one's class is derived from the other's."""
    if not adapter.head or not teacher.adapter.head:
        return False
    mine, theirs = student.get_submodule(adapter.head), teacher.model.get_submodule(teacher.adapter.head)
    related = isinstance(mine, type(theirs)) or isinstance(theirs, type(mine))
    return adapter.head == teacher.adapter.head or related


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

"""SparseKD's teacher-guided initialisation: a narrow student starts from the teacher's first channels."""

import logging
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.channel_layout import Layout, input_layouts
from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter
from projects.mmdet3d_plugin.distill.inherit_head import InheritReport
from projects.mmdet3d_plugin.distill.registry import INITIALIZERS, TEACHERS, DistillError, build_part
from projects.mmdet3d_plugin.distill.teachers.teacher import Teacher

logger = logging.getLogger('focaldistiller')


@INITIALIZERS.register_module()
class TeacherGuidedInit:
    """Copy the teacher's weights; where the student is narrower, those of the first channels (the paper's TGI).

    ``W_S[o, i] = W_T[o, pi(i)]``: pi follows how the channels that a layer takes are laid out, see
    :func:`input_layouts`. The published code takes the height for the outer axis of a flattened sparse feature, so
    that half of the inputs of its narrowest student are another channel's.

    Args:
        source: ``config`` and ``checkpoint`` of another detector to start from, where it is not the teacher.
    """

    def __init__(self, source: Mapping | None = None) -> None:
        self.source = source

    @torch.no_grad()
    def __call__(self, student: nn.Module, adapter: HostAdapter, teacher: Teacher) -> InheritReport:
        """Change the student's weights in place and log what was done."""
        source = teacher
        if self.source is None:
            teacher.require_trained('TeacherGuidedInit')
        else:
            cfg = {'type': 'FrozenTeacher', 'view': 'same', **self.source}
            source = build_part(TEACHERS, cfg, "'source' of TeacherGuidedInit")
        report = inherit_channels(student, source.model)
        if not report.copied and not report.resized:
            raise DistillError('no weight of the teacher fits the student; TeacherGuidedInit has no use here')
        logger.info('TeacherGuidedInit: %s', report)
        return report


@torch.no_grad()
def inherit_channels(student: nn.Module, teacher: nn.Module) -> InheritReport:
    """Give a detector the weights of a wider one of the same depth, in place.

    Returns:
        Weights of equal shape are 'copied', narrower ones 'resized'; those that the teacher does not have in a shape
        from which channels can be taken are 'left'.
    """
    layouts, others = input_layouts(teacher, student), dict(teacher.named_modules())
    report = InheritReport()
    for path, layer in student.named_modules():
        for name, mine in chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False)):
            full, theirs = f'{path}.{name}', getattr(others.get(path), name, None)
            value = None if theirs is None else first_channels(theirs, mine, layer, layouts.get(path), full)
            if value is None:
                report.left.append(full)
                continue
            (report.copied if theirs.shape == mine.shape else report.resized).append(full)
            mine.copy_(value)
    return report


def first_channels(
    value: Tensor, like: Tensor, layer: nn.Module, layout: Layout | None, name: str
) -> Tensor | None:
    """Take a narrow layer's share of a wide layer's weight.

    Args:
        value: of the wide layer.
        like: of the narrow layer.
        layer: the narrow layer, whose kind says which axes are channels.
        layout: of the layer's input; None for the first channels.
        name: of the weight, for messages.

    Returns:
        The shape of ``like``, or None where sizes other than channels differ or the narrow layer is wider.
    """
    if value.dim() == 0 or value.dim() != like.dim():
        return value if value.shape == like.shape else None
    axes = channel_axes(layer, like.dim())
    for axis, (have, want) in enumerate(zip(value.shape, like.shape, strict=True)):
        if want > have or (want < have and axis not in axes):
            return None
    if getattr(layer, 'groups', 1) != 1 and value.shape != like.shape:
        raise DistillError(
            f'{name!r} is a grouped convolution, of which TeacherGuidedInit cannot take channels'
        )
    value = value.narrow(axes[0], 0, like.shape[axes[0]])
    if len(axes) == 1:
        return value
    layout = layout or Layout(((value.shape[axes[1]], like.shape[axes[1]]),))
    if layout.widths != (value.shape[axes[1]], like.shape[axes[1]]):
        raise DistillError(
            f'{name!r} takes {value.shape[axes[1]]} and {like.shape[axes[1]]} channels (teacher, student), but '
            f'{layout.widths} come in; is a part of one detector wired differently?'
        )
    return value.index_select(axes[1], layout.index().to(value.device))


def channel_axes(layer: nn.Module, dims: int) -> tuple[int, ...]:
    """Axes of a layer's weight that are channels: (output, input), or (output,) for biases and norms."""
    if dims == 1:
        return (0,)
    if type(layer).__module__.startswith('spconv'):
        return 0, dims - 1  # (out, *kernel, in)
    if type(layer).__module__.startswith('mmcv.ops.sparse'):
        return dims - 1, dims - 2  # (*kernel, in, out)
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return (1, 0) if transposed else (0, 1)

"""Which of a wide detector's channels a narrow one of the same depth has, at every layer of a LiDAR detector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.registry import DistillError

PARTS = ('voxel_encoder', 'middle_encoder', 'backbone', 'neck', 'bbox_head')
"""Parts of a detector in the order in which data passes through them."""


@dataclass(frozen=True)
class Layout:
    """Channels of a tensor as blocks side by side; of each block the narrow detector has the first ones.

    Args:
        blocks: (channels of the wide one, channels of the narrow one) of each block, in order.
    """

    blocks: tuple[tuple[int, int], ...]

    @property
    def widths(self) -> tuple[int, int]:
        """Channels in all, of the wide and of the narrow detector."""
        return sum(wide for wide, _ in self.blocks), sum(narrow for _, narrow in self.blocks)

    def index(self) -> Tensor:
        """The wide detector's channel for each of the narrow one's, (narrow,).

        Example:
            >>> Layout(((4, 2), (4, 1))).index()
            tensor([0, 1, 4])
        """
        starts = torch.tensor([0] + [wide for wide, _ in self.blocks]).cumsum(0)
        parts = [
            start + torch.arange(narrow) for start, (_, narrow) in zip(starts, self.blocks, strict=False)
        ]
        return torch.cat(parts)

    def flattened(self, widths: tuple[int, int]) -> 'Layout':
        """After a view of (B, C, D, H, W) as (B, C * D, H, W), which puts the D heights of a channel side by side.

        Args:
            widths: C * D of both detectors; nothing changes where they are C.
        """
        heights = {after // before for after, before in zip(widths, self.widths, strict=True)}
        height = heights.pop()
        if heights or tuple(height * width for width in self.widths) != widths:
            raise DistillError(f'{self.widths} channels cannot become {widths} by flattening the height')
        return Layout(tuple((wide * height, narrow * height) for wide, narrow in self.blocks))


Inputs = dict[str, Layout]
Rule = Callable[[nn.Module, nn.Module, Layout], tuple[Inputs, Layout]]
"""(wide part, narrow part, layout of what comes in) -> layouts of the inputs of those layers that do not simply take
the first channels, by name, and the layout of what goes out."""


def _pillar_layers(attribute: str) -> Rule:
    """Encoders whose layers, but for the last, return ``[features | their maximum]``."""

    def rule(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
        pairs = zip(getattr(wide, attribute), getattr(narrow, attribute), strict=True)
        blocks = [tuple(layer.linear.out_features for layer in pair) for pair in pairs]
        inputs = {
            f'{attribute}.{i}.linear': Layout((block, block)) for i, block in enumerate(blocks[:-1], start=1)
        }
        return inputs, Layout((blocks[-1],))

    return rule


def _pass(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
    return {}, before


def _sparse_encoder(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
    """The height that its result is flattened over shows in what the backbone takes."""
    return {}, Layout(((wide.output_channels, narrow.output_channels),))


def _second(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
    """The neck takes every stage; the layout of the last one stands for all."""
    first, last = (tuple(part.blocks[i][0] for part in (wide, narrow)) for i in (0, -1))
    before = before.flattened(tuple(conv.in_channels for conv in first))
    return {'blocks.0.0': before}, Layout((tuple(conv.out_channels for conv in last),))


def _second_fpn(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
    """Each branch takes its stage; the branches are put side by side."""
    return {}, Layout(tuple(zip(wide.out_channels, narrow.out_channels, strict=True)))


def _fpn(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
    return {}, Layout(((wide.out_channels, narrow.out_channels),))


def _head(*entries: str) -> Rule:
    """Heads whose layers of these names take the neck's feature."""

    def rule(wide: nn.Module, narrow: nn.Module, before: Layout) -> tuple[Inputs, Layout]:
        return {name: before for name in entries if name in dict(narrow.named_modules())}, before

    return rule


RULES: dict[str, Rule] = {
    'HardSimpleVFE': _pass,
    'PillarFeatureNet': _pillar_layers('pfn_layers'),
    'HardVFE': _pillar_layers('vfe_layers'),
    'PointPillarsScatter': _pass,
    'SparseEncoder': _sparse_encoder,
    'SECOND': _second,
    'SECONDFPN': _second_fpn,
    'FPN': _fpn,
    'CenterHead': _head('shared_conv.conv'),
    'Anchor3DHead': _head('conv_cls', 'conv_reg', 'conv_dir_cls'),
}
"""By class name, of a part or of one of its bases."""


def input_layouts(wide: nn.Module, narrow: nn.Module) -> Inputs:
    """Layouts of all layers' inputs that are not simply the first channels.

    Args:
        wide: a LiDAR detector.
        narrow: one of the same depth with at most as many channels everywhere.

    Returns:
        By dotted name of the layer.
    """
    ours, theirs = dict(narrow.named_children()), dict(wide.named_children())
    found, layout = {}, Layout(())
    order = {part: place for place, part in enumerate(PARTS)}  # parts of other detectors come last
    for name in sorted(ours, key=lambda name: order.get(name.removeprefix('pts_'), len(PARTS))):
        if name not in theirs:
            raise DistillError(f'the teacher {type(wide).__name__} has no {name!r}, the student has')
        rule = _rule_of(ours[name], theirs[name], name)
        inputs, layout = rule(theirs[name], ours[name], layout)
        found |= {f'{name}.{layer}': value for layer, value in inputs.items()}
    return found


def _rule_of(narrow: nn.Module, wide: nn.Module, name: str) -> Rule:
    """The rule for a part; without one only equal shapes will do."""
    for kind in type(narrow).__mro__:
        if kind.__name__ in RULES:
            return RULES[kind.__name__]
    if _shapes(narrow) == _shapes(wide):
        return _pass
    raise DistillError(
        f"{name!r} is narrower than the teacher's and how the channels of a {type(narrow).__name__} are laid out is "
        f'not known; known: {", ".join(RULES)}'
    )


def _shapes(part: nn.Module) -> Mapping[str, torch.Size]:
    return {name: value.shape for name, value in part.state_dict().items()}

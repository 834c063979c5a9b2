"""What a lift-splat detector remembers between frames of a stream."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted

_KEPT = ('cam2lidar', 'cam_intrinsic', 'ida', 'lidar2ego', 'ego2global', 'sample_token')


class EarlierFrame(NamedTuple):
    """A remembered frame of B streams.

    Attributes:
        lifted: its features.
        metas: B dicts.
        continued: (B,) bool; False for a sample whose stream did not begin yet, and whose features mean nothing.
    """

    lifted: Lifted
    metas: list[dict[str, Any]]
    continued: Tensor


@dataclass
class LiftMemory:
    """The lifted features of earlier frames of each stream, owned by the caller and never by the detector.

    BEV maps could not be kept: where an earlier frame's features lie depends on the present pose. A frame continues its
    sample's stream only if its ``prev_token`` is the token of the newest frame that is remembered, whatever the other
    samples of the batch do. torch.compile leaves it to Python, as :class:`BEVMemory`.

    Attributes:
        length: frames that are kept.
        frames: newest first.
    """

    length: int
    frames: list[EarlierFrame] = field(default_factory=list)

    @torch.compiler.disable
    def recall(self, img_metas: list[dict[str, Any]]) -> list[EarlierFrame]:
        """Frames before the present one, newest first, as far as any sample's stream goes back."""
        if not self.frames or len(self.frames[0].metas) != len(img_metas):
            return []
        pairs = zip(img_metas, self.frames[0].metas, strict=True)
        same = [meta.get('prev_token') == known['sample_token'] for meta, known in pairs]
        continued = self.frames[0].continued.new_tensor(same)
        recalled = [frame._replace(continued=frame.continued & continued) for frame in self.frames]
        return [frame for frame in recalled if frame.continued.any()]

    @torch.compiler.disable
    def store(self, lifted: Lifted, img_metas: list[dict[str, Any]]) -> None:
        """Remember the frame just seen, after its own :meth:`recall`."""
        before = self.recall(img_metas)
        kept = [{key: meta[key] for key in _KEPT if key in meta} for meta in img_metas]
        seen = torch.ones(len(kept), dtype=torch.bool, device=lifted.depth.device)
        newest = EarlierFrame(Lifted(*(x.detach() for x in lifted)), kept, seen)
        self.frames = [newest, *before][: self.length]

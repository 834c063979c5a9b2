"""What a lift-splat detector remembers between frames of a stream."""

from dataclasses import dataclass, field
from typing import Any

import torch

from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted

_KEPT = ('cam2lidar', 'cam_intrinsic', 'ida', 'lidar2ego', 'ego2global', 'sample_token')


@dataclass
class LiftMemory:
    """The lifted features of earlier frames of each stream, owned by the caller and never by the detector.

    BEV maps could not be kept: where an earlier frame's features lie depends on the present pose. A frame continues a
    stream only if its ``prev_token`` is the token of the newest frame that is remembered. torch.compile leaves it to
    Python, as :class:`BEVMemory`.

    Attributes:
        length: frames that are kept.
        frames: newest first, features of B samples and their metas.
    """

    length: int
    frames: list[tuple[Lifted, list[dict[str, Any]]]] = field(default_factory=list)

    @torch.compiler.disable
    def recall(self, img_metas: list[dict[str, Any]]) -> list[tuple[Lifted, list[dict[str, Any]]]]:
        """Frames before the present one, newest first; none unless all samples continue their streams."""
        if not self.frames or len(self.frames[0][1]) != len(img_metas):
            return []
        known = [meta['sample_token'] for meta in self.frames[0][1]]
        pairs = zip(img_metas, known, strict=True)
        return self.frames if all(meta.get('prev_token') == token for meta, token in pairs) else []

    @torch.compiler.disable
    def store(self, lifted: Lifted, img_metas: list[dict[str, Any]]) -> None:
        """Remember the frame just seen, after its own :meth:`recall`."""
        before = self.recall(img_metas)
        kept = [{key: meta[key] for key in _KEPT if key in meta} for meta in img_metas]
        self.frames = [(Lifted(*(x.detach() for x in lifted)), kept), *before][: self.length]

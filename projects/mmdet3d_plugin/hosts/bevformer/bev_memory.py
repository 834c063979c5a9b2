"""What a temporal detector remembers between frames of a stream."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class BEVMemory:
    """The last BEV feature of each stream, owned by the caller and never by the detector.

    A frame continues a stream only if its ``prev_token`` is the token that the memory holds, so that a new scene,
    a gap, or another evaluation run cannot read a stale feature. torch.compile leaves it to Python: graphs would be held to
    the tokens of one frame.

    Attributes:
        bev: (B, H * W, C), or None before the first frame.
        tokens: sample token that each row belongs to.
    """

    bev: Tensor | None = None
    tokens: list[str] = field(default_factory=list)

    @torch.compiler.disable
    def recall(self, img_metas: list[dict]) -> tuple[Tensor | None, Tensor | None]:
        """Previous BEV feature and (B,) bool mask of the samples that continue their stream."""
        if self.bev is None or len(self.tokens) != len(img_metas):
            return None, None
        pairs = zip(img_metas, self.tokens, strict=True)
        exists = [meta['prev_bev_exists'] and meta['prev_token'] == token for meta, token in pairs]
        return self.bev, torch.tensor(exists, device=self.bev.device)

    @torch.compiler.disable
    def store(self, bev: Tensor, img_metas: list[dict]) -> None:
        """Remember the BEV feature (B, H * W, C) of the frame just seen."""
        self.bev, self.tokens = bev.detach(), [meta['sample_token'] for meta in img_metas]

"""The detection head of BEVFormer on a BEV feature that it has not made."""

from typing import Any

from mmdet.models import HEADS
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevformer.bevformer_head import BEVFormerHead


@HEADS.register_module()
class BEVDecoderHead(BEVFormerHead):
    """A :class:`BEVFormerHead` without what makes the BEV feature; its weights have the same names.

    Args:
        **head: arguments of :class:`BEVFormerHead`; its transformer has no encoder.

    Raises:
        ValueError: the transformer has an encoder, which nothing would use.
    """

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        if self.transformer.encoder is not None:
            raise ValueError(
                'BEVDecoderHead: leave the encoder out of its transformer: nothing here uses it.'
            )

    def forward(self, bev: Tensor) -> dict[str, Tensor]:
        """BEV feature (B, H * W, C), rows first -> see :meth:`BEVFormerHead.decode`."""
        return self.decode(bev)

"""The detection head of DETR3D: object queries that look at image features."""

from collections.abc import Sequence
from typing import Any

from mmdet.models import HEADS
from torch import Tensor

from projects.mmdet3d_plugin.hosts.detr.detr_head import CODE_WEIGHTS, DETRHead


@HEADS.register_module()
class DETR3DHead(DETRHead):
    """DETR head on the image features of all cameras (DETR3D, section 3.2).

    Args:
        num_query: object queries.
        num_reg_fcs: hidden layers of each branch.
        code_weights: weight of each box code in the regression loss.
        **head: further arguments of :class:`DETRHead`; its transformer is a :class:`DETR3DTransformer`.
    """

    def __init__(
        self,
        num_query: int,
        num_reg_fcs: int = 2,
        code_weights: Sequence[float] = CODE_WEIGHTS,
        **head: Any,
    ) -> None:
        super().__init__(**head)
        self.add_queries(num_query, num_reg_fcs, code_weights)

    def init_weights(self) -> None:
        """Initialise the transformer, and the class scores to 1 % foreground."""
        self.transformer.init_weights()
        self.init_queries()

    def forward(self, feats: Sequence[Tensor], img_metas: list[dict]) -> dict[str, Tensor]:
        """Detect objects in one frame.

        Args:
            feats: L tensors (B, num_cams, C, h, w).
            img_metas: one dict per sample, see the dataset.

        Returns:
            See :meth:`DETRHead.read_boxes`.
        """
        queries, references = self.transformer(
            feats, img_metas, self.query_embedding.weight, self.reg_branches
        )
        return self.read_boxes(queries, references)

"""Heads with object queries: BEVFormer, DETR3D."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead


class ObjectQueries(DenseHead):
    """Places are queries, whose class logits the last layer gives.

    Two detectors' queries are the same in number and order only where one comes from the other: a student that is taught
    by its average, or that inherited its teacher's head.
    """

    offers: ClassVar[str] = 'object queries'

    def logits(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """``all_cls_scores`` (num_layers, B, Q, classes) -> (B, Q, classes)."""
        return outputs['all_cls_scores'][-1]

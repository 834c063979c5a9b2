"""One-to-one matching of queries and ground-truth boxes (DETR; costs as in DETR3D and BEVFormer)."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from projects.mmdet3d_plugin.common.precision import at_least_float32

NUM_MATCHED_CODES = 8
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
EPS = 1e-12


class HungarianAssigner:
    """Assign each ground-truth box to the query that explains it at the least total cost.

    Args:
        cls_weight: weight of the focal classification cost.
        reg_weight: weight of the L1 cost over the first eight codes (velocity does not count).
    """

    def __init__(self, cls_weight: float = 2.0, reg_weight: float = 0.25) -> None:
        self.cls_weight, self.reg_weight = cls_weight, reg_weight

    def cost(self, cls_scores: Tensor, codes: Tensor, gt_labels: Tensor, gt_codes: Tensor) -> Tensor:
        """Cost of every pair.

        Args:
            cls_scores: (..., Q, num_classes), logits.
            codes: (..., Q, 10), predicted box codes.
            gt_labels: (n,).
            gt_codes: (n, 10).

        Returns:
            (..., Q, n).
        """
        p = cls_scores.sigmoid()[..., gt_labels]
        positive = -(p + EPS).log() * FOCAL_ALPHA * (1 - p) ** FOCAL_GAMMA
        negative = -(1 - p + EPS).log() * (1 - FOCAL_ALPHA) * p**FOCAL_GAMMA
        distance = torch.cdist(
            codes[..., :NUM_MATCHED_CODES].contiguous(), gt_codes[:, :NUM_MATCHED_CODES].contiguous(), p=1
        )
        return self.cls_weight * (positive - negative) + self.reg_weight * distance

    @torch.no_grad()
    def __call__(
        self, cls_scores: Tensor, codes: Tensor, gt_labels: Tensor, gt_codes: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Match all decoder layers of one sample with a single copy to the host.

        Args:
            cls_scores: (num_layers, Q, num_classes), logits.
            codes: (num_layers, Q, 10).
            gt_labels: (n,).
            gt_codes: (n, 10).

        Returns:
            Per layer, indices of matched queries and of their ground-truth boxes, both (min(Q, n),).
        """
        cost = self.cost(at_least_float32(cls_scores), at_least_float32(codes), gt_labels, gt_codes)
        cost = cost.nan_to_num(nan=100.0, posinf=100.0, neginf=-100.0).cpu().numpy()
        pairs = [linear_sum_assignment(layer) for layer in cost]
        device = cls_scores.device
        return [(torch.from_numpy(q).to(device), torch.from_numpy(g).to(device)) for q, g in pairs]

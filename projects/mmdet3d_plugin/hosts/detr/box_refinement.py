"""Box refinement (Deformable DETR, section 4): each decoder layer moves the reference points of the next."""

import torch
from mmdet.models.utils.transformer import inverse_sigmoid
from torch import Tensor

from projects.mmdet3d_plugin.common.precision import at_least_float32


def refined(reference: Tensor, code: Tensor) -> Tensor:
    """Reference points (B, Q, 3) in [0, 1], moved by the centres of box codes (B, Q, 10); constants, (B, Q, 3).

    Example:
        >>> refined(torch.full((1, 1, 3), 0.5), torch.zeros(1, 1, 10))
        tensor([[[0.5000, 0.5000, 0.5000]]])
    """
    code = at_least_float32(code)
    moved = torch.cat([code[..., :2], code[..., 4:5]], dim=-1) + inverse_sigmoid(reference)
    return moved.sigmoid().detach()

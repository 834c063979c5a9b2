"""Arithmetic in float32 at the least."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision as float32; float32, float64 and whole numbers as they are.

    Example:
        >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    wide = not tensor.is_floating_point() or tensor.dtype in (torch.float32, torch.float64)
    return tensor if wide else tensor.float()

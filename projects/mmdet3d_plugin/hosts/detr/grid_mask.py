"""GridMask (arXiv 2001.04086): hide a random grid of squares of the training images."""

import torch
from torch import Tensor, nn


class GridMask(nn.Module):
    """Hide part of a randomly spaced and placed grid of stripes; the same part for all images of a call.

    Args:
        ratio: side of a visible stripe over the grid period.
        prob: probability that a call is masked at all.
        inverted: keep the stripes and hide the squares between them, as BEVFormer does; else the reverse.

    Example:
        >>> GridMask().eval()(torch.ones(1, 3, 4, 4)).sum()
        tensor(48.)
    """

    def __init__(self, ratio: float = 0.5, prob: float = 0.7, inverted: bool = True) -> None:
        super().__init__()
        self.ratio, self.prob, self.inverted = ratio, prob, inverted

    def forward(self, img: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W); the identity in ``eval()``."""
        if not self.training or torch.rand(()).item() > self.prob:
            return img
        h, w = img.shape[-2:]
        period = int(torch.randint(2, max(3, h), ()))
        width = min(max(int(period * self.ratio + 0.5), 1), period - 1)
        rows = self._stripes(h, period, width)
        cols = self._stripes(w, period, width)
        visible = ~(rows[:, None] | cols[None, :])
        if self.inverted:
            visible = ~visible
        return img * visible.to(img)

    @staticmethod
    def _stripes(size: int, period: int, width: int) -> Tensor:
        """(size,), bool, True inside stripes of a given width and period at a random phase."""
        phase = int(torch.randint(period, ()))
        return (torch.arange(size) - phase) % period < width

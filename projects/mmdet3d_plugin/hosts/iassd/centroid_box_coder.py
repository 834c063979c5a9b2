"""What a centroid says about its box."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import gravity_centers


class CentroidBoxCoder:
    """Boxes relative to a place and to the mean size of their class; yaw as one of several bins and the rest.

    A code has ``6 + 2 * bins`` numbers: offsets of the gravity centre over the mean box's diagonal and height, logarithms
    of the ratios of length, width and height, a logit for every bin, and for every bin what is left, over half a bin. Bin
    i is centred on i times 2 pi / bins.

    Args:
        mean_sizes: length, width and height of every class, metres, in the order of labels.
        bins: of the full circle.
    """

    def __init__(self, mean_sizes: Sequence[Sequence[float]], bins: int = 12) -> None:
        self.mean_sizes, self.bins = [list(map(float, size)) for size in mean_sizes], bins
        self.half = math.pi / bins
        self.size = 6 + 2 * bins

    def encode(self, boxes: Tensor, labels: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets of places.

        Args:
            boxes: (N, 7) bottom centres, metres and radians.
            labels: (N,).
            places: (N, 3).

        Returns:
            (N, 6) offsets and sizes, (N,) bins, and (N,) rests in [-1, 1).
        """
        mean = self._mean(labels, boxes)
        offset = (gravity_centers(boxes) - places) / _units(mean)
        turn = (boxes[:, 6] + self.half).remainder(2 * math.pi)
        # where rounding makes a full circle of it
        number = (turn / (2 * self.half)).floor().clamp(max=self.bins - 1)
        rest = turn / self.half - 2 * number - 1
        return torch.cat([offset, (boxes[:, 3:6] / mean).log()], 1), number.long(), rest

    def decode(self, codes: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Codes (N, 6 + 2 * bins), labels (N,) and places (N, 3) -> boxes (N, 7), yaw in [-pi, pi)."""
        mean = self._mean(labels, codes)
        center = places + codes[:, :3] * _units(mean)
        size = mean * codes[:, 3:6].exp()
        logits, rests = codes[:, 6:].chunk(2, 1)
        number = logits.argmax(1, keepdim=True)
        yaw = self.half * (2 * number + rests.gather(1, number))
        yaw = (yaw + math.pi).remainder(2 * math.pi) - math.pi
        return torch.cat([center[:, :2], center[:, 2:] - size[:, 2:] / 2, size, yaw], 1)

    def _mean(self, labels: Tensor, like: Tensor) -> Tensor:
        return like.new_tensor(self.mean_sizes)[labels]


def _units(mean: Tensor) -> Tensor:
    """(N, 3) metres that an offset of 1 stands for."""
    diagonal = mean[:, :2].norm(dim=1, keepdim=True)
    return torch.cat([diagonal, diagonal, mean[:, 2:]], 1)

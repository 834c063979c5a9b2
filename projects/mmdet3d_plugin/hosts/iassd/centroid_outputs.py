"""What the head of IA-SSD returns."""

from typing import NamedTuple

from torch import Tensor

from projects.mmdet3d_plugin.hosts.iassd.instance_aware_net import Confidence


class CentroidOutputs(NamedTuple):
    """What M centroids of B clouds say.

    Args:
        origins: (M, 3) where the points were, metres.
        shifts: (M, 3) how far away each takes its object's centre to be, metres.
        centroids: (M, 3) where they look: origins and shifts, as far as these may go.
        counts: centroids of each cloud.
        logits: (M, classes).
        codes: (M, 6 + 2 * bins), see :class:`~projects.mmdet3d_plugin.hosts.iassd.centroid_box_coder.CentroidBoxCoder`.
        confidences: of the encoder's stages.
    """

    origins: Tensor
    shifts: Tensor
    centroids: Tensor
    counts: tuple[int, ...]
    logits: Tensor
    codes: Tensor
    confidences: tuple[Confidence, ...]

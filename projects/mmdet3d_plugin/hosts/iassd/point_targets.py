"""To which object a point belongs, and how central it is there."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import gravity_centers, into_frame
from projects.mmdet3d_plugin.hosts.two_stage.points_in_boxes import enlarged, in_boxes


class Assignment(NamedTuple):
    """Objects of N points of B clouds.

    Args:
        objects: (N,) rows of ``boxes``, -1 for background.
        boxes: (G, 7) objects of all clouds, bottom centres.
        labels: (G,).
    """

    objects: Tensor
    boxes: Tensor
    labels: Tensor

    @property
    def foreground(self) -> Tensor:
        """(N,) bool."""
        return self.objects >= 0


@torch.no_grad()
def assign_points(
    places: Tensor, counts: Sequence[int], boxes: Sequence[Tensor], labels: Sequence[Tensor], margin: float
) -> Assignment:
    """Give each point the object that it lies in; of several, the one whose centre is nearest.

    Args:
        places: (N, 3), metres.
        counts: points of each of B clouds.
        boxes: B times (n_i, 7), bottom centres.
        labels: B times (n_i,).
        margin: metres by which boxes are longer, wider and higher.
    """
    objects, first = [], 0
    for cloud, own in zip(places.split(list(counts)), boxes, strict=True):
        if len(own):
            box, point = in_boxes(enlarged(own, 1, margin), cloud)
            far = own.new_full((len(own), len(cloud)), torch.inf)
            far[box, point] = (cloud[point] - gravity_centers(own)[box]).norm(dim=1)
            distance, nearest = far.min(0)
            objects.append(torch.where(distance < torch.inf, first + nearest, -1))
        else:
            objects.append(torch.full((len(cloud),), -1, device=places.device))
        first += len(own)
    return Assignment(torch.cat(objects), torch.cat(list(boxes)), torch.cat(list(labels)))


@torch.no_grad()
def counting_points(
    places: Tensor,
    counts: Sequence[int],
    objects: Assignment,
    ignored: Sequence[Tensor] | None,
    margin: float,
) -> Tensor | slice:
    """Which points count, as objects or as background: all but those that would belong to an ignored box if it were an
    object, and belong to no object.

    Args:
        places: (N, 3), metres.
        counts: points of each of B clouds.
        objects: to which they belong.
        ignored: B times (m_i, 7), bottom centres; None for none.
        margin: as in :func:`assign_points`.

    Returns:
        (N,) bool, or a slice of everything.
    """
    if ignored is None:
        return slice(None)
    names = [own.new_zeros(len(own), dtype=torch.long) for own in ignored]
    doubtful = assign_points(places, counts, ignored, names, margin).foreground
    return objects.foreground | ~doubtful


@torch.no_grad()
def centerness(places: Tensor, boxes: Tensor) -> Tensor:
    """How central points are in their boxes: the cube root of the product over three axes of the distance to the nearer
    face over that to the further one.

    Args:
        places: (N, 3), metres.
        boxes: (N, 7), bottom centres.

    Returns:
        (N,): 1 in the middle, 0 on the surface and beyond.
    """
    local = into_frame(places - gravity_centers(boxes), boxes[:, 6]).abs()
    half = boxes[:, 3:6] / 2
    return ((half - local).clamp(min=0) / (half + local)).prod(1).pow(1 / 3)

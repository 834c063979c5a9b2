"""Which raw points lie in which boxes, in plain torch: mmcv has one operator for CPU and another, that does less, for CUDA."""

from typing import NamedTuple

import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.group_ranks import group_ranks
from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import gravity_centers, into_frame
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals

_PAIRS = 2**22  # point-box pairs looked at together, to bound memory
_STRIP, _FAR = 2.0, 1e4  # metres


class PointPairs(NamedTuple):
    """Pairs of a box and a point within it: rows (P,) of the boxes, ascending, and points (P, C) of the clouds."""

    box: Tensor
    points: Tensor


def in_boxes(boxes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Which points lie within which boxes: between bottom and top, both included, and strictly inside the four sides.

    Args:
        boxes: (R, 7) bottom centres, metres and radians.
        points: (N, 3+) x, y, z.

    Returns:
        Rows (P,) of boxes, ascending, and of points, ascending within a box; there are as many of a box as mmdet3d's
        ``points_in_boxes_cpu`` counts.
    """
    box, point = _in_squares(boxes, points)
    yaw = -boxes[:, 6:7]
    # numbers of a pair lie in rows of their own: one gather brings all of them
    own = torch.cat([gravity_centers(boxes), boxes[:, 3:6] / 2, yaw.cos(), yaw.sin()], 1)
    *center, length, width, height, cos, sin = own.T.contiguous().index_select(1, box)
    x, y, z = points[:, :3].T.contiguous().index_select(1, point) - torch.stack(center)
    inside = (x * cos - y * sin).abs() < length
    inside &= (x * sin + y * cos).abs() < width
    inside &= z.abs() <= height
    box, point = box[inside], point[inside]
    order = (box * len(points) + point).argsort()
    return box[order], point[order]


def _in_squares(boxes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of boxes (R, 7), ascending, and of points (N, 3+) that lie in the squares around them, and of some near them.

    Nearly all points are far from a box. They are sorted by strips of the ground and along these, so that those of a square
    are found by bisection, one stretch per strip, and no others are looked at. Places beyond ``_FAR`` count as there.
    """
    reach = (boxes[:, 3:5].norm(dim=1, keepdim=True) / 2 * 1.001).double()
    low, high = (_bounded(boxes[:, :2].double() + side * reach) for side in (-1, 1))
    place = _bounded(points[:, :2].double())
    strip, length = (
        place[:, 1].div(_STRIP, rounding_mode='floor'),
        2 * _FAR + 2,
    )  # a stretch ends before the next begins
    along, order = (strip * length + place[:, 0]).sort()
    if not len(order):
        return order, order
    first, last = (
        side[:, 1].div(_STRIP, rounding_mode='floor').clamp(strip.min(), strip.max()).long()
        for side in (low, high)
    )
    box = torch.repeat_interleave(torch.arange(len(boxes), device=boxes.device), last - first + 1)
    begin = (first[box] + group_ranks(box, len(boxes)).rank) * length
    start = torch.searchsorted(along, begin + low[box, 0])
    counts = torch.searchsorted(along, begin + high[box, 0], right=True) - start
    place = torch.repeat_interleave(start - (counts.cumsum(0) - counts), counts)
    place += torch.arange(len(place), device=boxes.device)
    return torch.repeat_interleave(box, counts), order[place]


def _bounded(places: Tensor) -> Tensor:
    """Places (n, 2) within ``_FAR`` of the origin; what is no number is at its border."""
    return places.nan_to_num(nan=-_FAR, posinf=_FAR, neginf=-_FAR).clamp(-_FAR, _FAR)


@torch.no_grad()
def points_in_proposals(
    proposals: Proposals, points: list[Tensor], scale: float, margin: float, most: int
) -> PointPairs:
    """The raw points within boxes that are somewhat enlarged.

    Args:
        proposals: N boxes of B clouds.
        points: B clouds (N_i, C), x, y, z first.
        scale: factor of all sides.
        margin: metres added to all sides, after scaling.
        most: points kept of one box; of more, evenly spaced ones in the order of the cloud.

    Returns:
        Pairs, constants; a point may be in several boxes.
    """
    boxes = enlarged(proposals.boxes, scale, margin)
    rows, found = [], []
    for sample, cloud in enumerate(points):
        mine = (proposals.batch_index == sample).nonzero().squeeze(1)
        step = max(1, _PAIRS // max(1, len(cloud)))
        for part in mine.split(step):
            box, point = in_boxes(boxes[part], cloud)
            kept = _spaced(box, len(part), most)
            rows.append(part[box[kept]])
            found.append(cloud[point[kept]])
    if not rows:
        return PointPairs(proposals.labels[:0], points[0][:0])
    return PointPairs(torch.cat(rows), torch.cat(found))


def enlarged(boxes: Tensor, scale: float, margin: float) -> Tensor:
    """Boxes (R, 7) with longer sides around the same gravity centres."""
    size = boxes[:, 3:6] * scale + margin
    bottom = boxes[:, 2:3] + (boxes[:, 5:6] - size[:, 2:]) / 2
    return torch.cat([boxes[:, :2], bottom, size, boxes[:, 6:]], 1)


def _spaced(box: Tensor, boxes: int, most: int) -> Tensor:
    """Ascending rows (P,) -> (P,) bool that is True ``most`` times per row at the most, evenly spaced."""
    rank, counts = group_ranks(box, boxes)
    count = counts[box]
    slot, last = (torch.div(r * most, count, rounding_mode='floor') for r in (rank, rank - 1))
    return (count <= most) | (slot != last)


def frame_coordinates(boxes: Tensor, pairs: PointPairs) -> Tensor:
    """Points of pairs in the frames of their boxes.

    Args:
        boxes: (R, 7) whose rows ``pairs.box`` counts.
        pairs: P of them.

    Returns:
        (P, 3): metres ahead of, left of and above the gravity centre.
    """
    own = boxes[pairs.box]
    return into_frame(pairs.points[:, :3] - gravity_centers(own), own[:, 6])

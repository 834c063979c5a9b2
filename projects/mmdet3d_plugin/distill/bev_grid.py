"""Where a map seen from above lies, so that two maps are compared metre by metre."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.registry import DistillError

Range = Sequence[float]


@dataclass(frozen=True)
class BEVGrid:
    """What a BEV map covers. Rows run along y and columns along x of its frame.

    Args:
        pc_range: ``[x0, y0, z0, x1, y1, z1]`` in metres.
        frame: 'lidar' (x right, y ahead on nuScenes), or 'ego' (x ahead, y left).
        size: (H, W) cells, where they are known before the first forward pass.
    """

    pc_range: Range
    frame: str = 'lidar'
    size: tuple[int, int] | None = None


def shared_range(student: BEVGrid | None, teacher: BEVGrid | None, where: str) -> list[float] | None:
    """What both maps cover, where that is not all of both.

    Args:
        student: where the student's map lies; None where its host does not say.
        teacher: the same of the teacher's.
        where: the place in the recipe, for messages.

    Returns:
        ``[x0, y0, z0, x1, y1, z1]`` in metres; None where both cover the same, or nothing is known.

    Raises:
        DistillError: the maps are of different frames, or do not overlap.
    """
    if student is None or teacher is None:
        return None
    if student.frame != teacher.frame:
        raise DistillError(
            f"{where}: the student's BEV map lies in the {student.frame} frame, the teacher's in the {teacher.frame} frame, "
            'which is turned against it; give both one frame (model.frame)'
        )
    mine, theirs = ([float(x) for x in grid.pc_range] for grid in (student, teacher))
    if mine[:2] + mine[3:5] == theirs[:2] + theirs[3:5]:
        return None
    low, high = map(max, mine[:3], theirs[:3]), map(min, mine[3:], theirs[3:])
    shared = [*low, *high]
    if shared[0] >= shared[3] or shared[1] >= shared[4]:
        raise DistillError(
            f"{where}: the student's BEV map covers {mine} m and the teacher's {theirs} m: they do not overlap"
        )
    return shared


def crop_bev(feature: Tensor, limits: Range, wanted: Range) -> Tensor:
    """Look a BEV map up bilinearly on a part of it, with cells as large as its own, or a little larger or smaller.

    Args:
        feature: (B, C, H, W), row = y, column = x.
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres that it covers.
        wanted: the same of the part.

    Returns:
        (B, C, H', W').
    """
    if list(limits) == list(wanted):
        return feature
    size = cropped_size(tuple(feature.shape[-2:]), limits, wanted)
    place = cell_centres(wanted, limits, feature.new_empty(len(feature), 0, *size))
    return F.grid_sample(feature, place, padding_mode='border', align_corners=False)


def cropped_size(size: tuple[int, int], limits: Range, wanted: Range) -> tuple[int, int]:
    """(H, W) of a part of a BEV map of (H, W) cells, see :func:`crop_bev`."""
    shares = [(wanted[axis + 3] - wanted[axis]) / (limits[axis + 3] - limits[axis]) for axis in (1, 0)]
    h, w = (max(1, round(side * share)) for side, share in zip(size, shares, strict=True))
    return h, w


def cell_centres(limits: Range, other: Range, like: Tensor) -> Tensor:
    """Cell centres of one BEV grid in the coordinates of another, as ``grid_sample`` wants them.

    Args:
        limits: ``[x0, y0, z0, x1, y1, z1]`` in metres of the grid whose centres are meant.
        other: the same of the other grid.
        like: (B, C, H, W) on the first grid.

    Returns:
        (B, H, W, 2) ``(x, y)``; -1 and 1 are the borders of the other grid.
    """
    axes = []
    for axis, count in ((0, like.shape[-1]), (1, like.shape[-2])):
        share = (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count
        metres = limits[axis] + share * (limits[axis + 3] - limits[axis])
        axes.append(2 * (metres - other[axis]) / (other[axis + 3] - other[axis]) - 1)
    x, y = torch.meshgrid(*axes, indexing='xy')
    return torch.stack([x, y], dim=-1).expand(len(like), -1, -1, -1)

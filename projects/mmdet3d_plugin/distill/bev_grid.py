"""Where a map seen from above lies, so that two maps are compared metre by metre.

Here, and nowhere else, maps of another range, cell size, frame or order of axes become maps of the same metres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import present_metas

Range = Sequence[float]
_MOUNTED_WITHIN = 5.0  # metres between the origins of the LiDAR's and the car's frame, at most
AXES = ('yx', 'xy')


@dataclass(frozen=True)
class BEVGrid:
    """What a BEV map covers.

    Args:
        pc_range: ``[x0, y0, z0, x1, y1, z1]`` in metres.
        frame: 'lidar' (x right, y ahead on nuScenes), or 'ego' (x ahead, y left).
        size: (H, W) cells, where they are known before the first forward pass.
        axes: 'yx' = rows run along y and columns along x of the frame, both upwards; 'xy' = rows along x.

    Raises:
        ValueError: an unknown order of axes.
    """

    pc_range: Range
    frame: str = 'lidar'
    size: tuple[int, int] | None = None
    axes: str = 'yx'

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise ValueError(f'axes must be one of {AXES}, got {self.axes!r}')


def shared_range(student: BEVGrid | None, teacher: BEVGrid | None, where: str) -> list[float] | None:
    """What both maps cover, where that is not all of both.

    Args:
        student: where the student's map lies; None where its host does not say.
        teacher: the same of the teacher's.
        where: the place in the recipe, for messages.

    Returns:
        ``[x0, y0, z0, x1, y1, z1]`` in metres of :func:`shared_frame`; None where both cover the same in one order of
        axes, or nothing is known. Of two frames what the map in the LiDAR frame covers: they are turned against each
        other, and :func:`place_bev` says where the other has nothing.

    Raises:
        DistillError: the maps do not overlap.
    """
    if student is None or teacher is None:
        return None
    mine, theirs = ([float(x) for x in grid.pc_range] for grid in (student, teacher))
    if student.frame != teacher.frame:
        (near, far), (nearer, farther) = map(_distances, (mine, theirs))
        if max(near, nearer) > min(far, farther) + _MOUNTED_WITHIN:
            raise DistillError(_apart(where, mine, theirs))
        return mine if student.frame == 'lidar' else theirs
    if mine[:2] + mine[3:5] == theirs[:2] + theirs[3:5] and student.axes == teacher.axes == 'yx':
        return None
    low, high = map(max, mine[:3], theirs[:3]), map(min, mine[3:], theirs[3:])
    shared = [*low, *high]
    if shared[0] >= shared[3] or shared[1] >= shared[4]:
        raise DistillError(_apart(where, mine, theirs))
    return shared


def _apart(where: str, mine: Range, theirs: Range) -> str:
    return f"{where}: the student's BEV map covers {mine} m and the teacher's {theirs} m: they do not overlap"


def _distances(pc_range: Range) -> tuple[float, float]:
    """Least and greatest distance of a map from the origin of its frame, however the frame is turned, in metres."""
    low, high = pc_range[:2], pc_range[3:5]
    nearest = [max(a, -b, 0.0) for a, b in zip(low, high, strict=True)]
    return math.hypot(*nearest), math.hypot(*map(max, map(abs, low), map(abs, high)))


def shared_frame(student: BEVGrid | None, teacher: BEVGrid | None) -> str | None:
    """The frame in which two maps are compared: their own, the LiDAR's where they differ; None where nothing is known."""
    frames = {grid.frame for grid in (student, teacher) if grid is not None}
    return frames.pop() if len(frames) == 1 else 'lidar' if frames else None


def place_bev(feature: Tensor, grid: BEVGrid, wanted: Range, frame: str, img_metas: Sequence[Any]) -> Tensor:
    """Look a BEV map up on wanted metres, rows along y and columns along x, with cells about as large as its own.

    Args:
        feature: (B, C, H, W) on ``grid``.
        grid: where it lies.
        wanted: ``[x0, y0, z0, x1, y1, z1]`` in metres.
        frame: of ``wanted``, 'lidar' or 'ego'.
        img_metas: of B samples, or their lists over time; ``lidar2ego`` is read where the frames differ.

    Returns:
        (B, C, H', W'); 0 where the map, turned into another frame, has nothing.
    """
    if grid.axes == 'xy':
        feature = feature.transpose(-1, -2)
    if grid.frame == frame:
        return crop_bev(feature, grid.pc_range, wanted)
    size = cropped_size(tuple(feature.shape[-2:]), grid.pc_range, wanted)
    metres = cell_metres(wanted, feature.new_empty(len(feature), 0, *size))
    turn = frame_change(img_metas, frame, grid.frame).to(feature)
    metres = torch.einsum('bij,bhwj->bhwi', turn[:, :2, :2], metres) + turn[:, None, None, :2, 3]
    return F.grid_sample(feature, in_units(metres, grid.pc_range), align_corners=False)


def frame_change(img_metas: Sequence[Any], source: str, target: str) -> Tensor:
    """(B, 4, 4) from one frame of B samples to another, 'lidar' and 'ego'; of the ground plane only x and y are needed.

    Raises:
        DistillError: the metas do not tell how the LiDAR stands on the car.
    """
    metas = present_metas(img_metas)
    if any('lidar2ego' not in meta for meta in metas):
        raise DistillError(
            "img_metas carry no 'lidar2ego', without which BEV maps of the LiDAR's and the car's frame cannot be compared"
        )
    lidar2ego = torch.stack([torch.as_tensor(meta['lidar2ego'], dtype=torch.float64) for meta in metas])
    if source == target:
        return torch.eye(4, dtype=torch.float64).expand_as(lidar2ego)
    return lidar2ego if (source, target) == ('lidar', 'ego') else torch.linalg.inv(lidar2ego)


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
    return in_units(cell_metres(limits, like), other)


def cell_metres(limits: Range, like: Tensor) -> Tensor:
    """Cell centres (B, H, W, 2), ``(x, y)`` in metres, of a BEV grid that covers ``limits``; ``like`` is (B, C, H, W)."""
    axes = []
    for axis, count in ((0, like.shape[-1]), (1, like.shape[-2])):
        share = (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count
        axes.append(limits[axis] + share * (limits[axis + 3] - limits[axis]))
    x, y = torch.meshgrid(*axes, indexing='xy')
    return torch.stack([x, y], dim=-1).expand(len(like), -1, -1, -1)


def in_units(metres: Tensor, limits: Range) -> Tensor:
    """Places (..., 2), ``(x, y)`` in metres, as ``grid_sample`` wants them: -1 and 1 are the borders of ``limits``."""
    low, high = metres.new_tensor(limits[:2]), metres.new_tensor(limits[3:5])
    return 2 * (metres - low) / (high - low) - 1

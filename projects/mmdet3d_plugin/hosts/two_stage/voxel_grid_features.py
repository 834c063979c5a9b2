"""Features of a box from the sparse voxels of the 3D encoder."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.row_layers import norm_of, row_layers
from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import gravity_centers, out_of_frame
from projects.mmdet3d_plugin.hosts.two_stage.first_stage_maps import SparseVoxels
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals
from projects.mmdet3d_plugin.hosts.two_stage.roi_features import ROI_FEATURES, RoIFeatures, map_of
from projects.mmdet3d_plugin.ops.voxel_query import CellGrid, voxel_query


class VoxelStage(NamedTuple):
    """One stage of the encoder: name of its ``map``, ``channels``, first voxels per cell, and ``radius`` in metres."""

    map: str
    channels: int
    stride: int
    radius: float


class _Pooling(nn.Module):
    """What the points of a grid take from the voxels of one stage.

    The first layer acts on features and on relative places apart, before voxels are grouped: a voxel is multiplied once
    and not once for every point that it is near ("accelerated PointNet").
    """

    def __init__(self, channels: int, width: int, norm: str) -> None:
        super().__init__()
        self.voxel = nn.Sequential(nn.Linear(channels, width, bias=False), norm_of(norm, width))
        self.place = nn.Sequential(nn.Linear(3, width, bias=False), norm_of(norm, width))
        self.last = row_layers([width, width], norm)

    def forward(self, features: Tensor, point: Tensor, voxel: Tensor, offsets: Tensor, points: int) -> Tensor:
        """What each point takes.

        Args:
            features: (V, C) of the voxels.
            point: (P,) of pairs of a point and a voxel near it.
            voxel: (P,) of these pairs.
            offsets: (P, 3) from point to voxel, metres.
            points: M.

        Returns:
            (M, width).
        """
        rows = F.relu(self.voxel(features)[voxel] + self.place(offsets))
        best = rows.new_zeros(points, rows.shape[1])
        return self.last(best.scatter_reduce(0, point[:, None].expand_as(rows), rows, 'amax'))


@ROI_FEATURES.register_module()
class VoxelGridFeatures(RoIFeatures):
    """A grid in the box, each point of which takes the maximum over the voxels around it (Deng et al., Voxel R-CNN).

    Args:
        stages: of the encoder: dicts with the fields of :class:`VoxelStage`.
        pc_range: what is voxelised, metres.
        voxel_size: of the first stage along x, y and z, metres.
        grid: points of the grid along each side of the box.
        neighbours: voxels that a point looks at in each stage at the most.
        reach: cells to each side in which they are looked for.
        channels: of a point per stage.
        norm: see :func:`~projects.mmdet3d_plugin.hosts.row_layers.norm_of`; the paper has 'batch'.
    """

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        pc_range: Sequence[float],
        voxel_size: Sequence[float],
        grid: int = 6,
        neighbours: int = 16,
        reach: int = 4,
        channels: int = 32,
        norm: str = 'batch',
    ) -> None:
        super().__init__()
        self.stages = [VoxelStage(**stage) for stage in stages]
        self.reads = tuple(stage.map for stage in self.stages)
        self.pc_range, self.voxel_size = list(pc_range), list(voxel_size)
        self.grid, self.neighbours, self.reach = grid, neighbours, reach
        self.pooling = nn.ModuleList(_Pooling(stage.channels, channels, norm) for stage in self.stages)
        self.width = len(self.stages) * channels * grid**3

    def forward(self, proposals: Proposals, maps: Mapping[str, Any], points: Sequence[Tensor]) -> Tensor:
        """See the base class: (N, width)."""
        places = self.places(proposals.boxes).flatten(0, 1)
        sample = proposals.batch_index.repeat_interleave(self.grid**3)
        pooled = [
            self._pooled(stage, pooling, map_of(maps, stage.map), places, sample)
            for stage, pooling in zip(self.stages, self.pooling, strict=True)
        ]
        return torch.cat(pooled, 1).view(len(proposals), self.width)

    def places(self, boxes: Tensor) -> Tensor:
        """Points of the grids in boxes (N, 7): (N, grid^3, 3), metres, LiDAR frame."""
        ticks = (torch.arange(self.grid).to(boxes) + 0.5) / self.grid - 0.5
        unit = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing='ij'), 3).view(1, -1, 3)
        yaw = boxes[:, None, 6].expand(-1, self.grid**3)
        return gravity_centers(boxes)[:, None] + out_of_frame(unit * boxes[:, None, 3:6], yaw)

    def cells(self, stage: VoxelStage, voxels: SparseVoxels) -> CellGrid:
        """Where the cells of a stage lie."""
        size = tuple(side * stage.stride for side in self.voxel_size)
        return CellGrid(voxels.shape, tuple(self.pc_range[:3]), size)

    def _pooled(
        self, stage: VoxelStage, pooling: _Pooling, voxels: SparseVoxels, places: Tensor, sample: Tensor
    ) -> Tensor:
        """What points (M, 3) of samples (M,) take from one stage: (M, channels)."""
        cells = self.cells(stage, voxels)
        samples = 1 + max(int(part.max()) if len(part) else 0 for part in (sample, voxels.indices[:, 0]))
        limits = dict(samples=samples, reach=self.reach, radius=stage.radius, neighbours=self.neighbours)
        found = voxel_query(places, sample, voxels.indices, cells, **limits)
        point, slot = (found >= 0).nonzero(as_tuple=True)
        voxel = found[point, slot]
        size, origin = places.new_tensor(cells.size), places.new_tensor(cells.origin)
        centers = (voxels.indices[voxel][:, [3, 2, 1]] + 0.5) * size + origin
        return pooling(voxels.features, point, voxel, centers - places[point], len(places))

"""Voxels of a point cloud with their features, and whether those of two detectors lie in the same rows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class VoxelGrid:
    """How a point cloud is cut into voxels; a pillar is a voxel as high as the range.

    Args:
        voxel_size: (x, y, z) in metres.
        pc_range: (x0, y0, z0, x1, y1, z1) in metres, LiDAR frame.
        max_points: most points that a voxel keeps.
    """

    voxel_size: tuple[float, ...]
    pc_range: tuple[float, ...]
    max_points: int

    @classmethod
    def of(cls, layer: nn.Module) -> 'VoxelGrid':
        """The grid of mmcv's ``Voxelization``."""
        return cls(tuple(layer.voxel_size), tuple(layer.point_cloud_range), layer.max_num_points)

    def __str__(self) -> str:
        size, area = (
            ' x '.join(f'{v:g}' for v in self.voxel_size),
            ', '.join(f'{v:g}' for v in self.pc_range),
        )
        return f'{size} m in [{area}], at most {self.max_points} points each'


@dataclass(frozen=True)
class Voxels:
    """Points sorted into V voxels, those of all samples one below the other.

    Args:
        points: (V, max_points, C), zero where a voxel has fewer points.
        num_points: (V,) points per voxel.
        coors: (V, 4) as (sample, z, y, x).
    """

    points: Tensor
    num_points: Tensor
    coors: Tensor

    def copy(self) -> tuple[Tensor, Tensor, Tensor]:
        """What mmdet3d's ``voxelize`` returns. Points are copied: a pillar encoder turns them into offsets in place."""
        return self.points.clone(), self.num_points, self.coors


@dataclass(frozen=True)
class VoxelFeatures:
    """What a voxel encoder computes of V voxels.

    Args:
        features: (V, C).
        coors: (V, 4) as (sample, z, y, x).
        num_points: (V,) points per voxel.
        grid: of the voxels.
    """

    features: Tensor
    coors: Tensor
    num_points: Tensor
    grid: VoxelGrid


def require_same_rows(student: VoxelFeatures, teacher: VoxelFeatures) -> None:
    """Raise where row i of one is not the voxel of row i of the other.

    Rows agree when both detectors cut space alike: the framework then voxelises once and gives both the same voxels.
    """
    if student.grid != teacher.grid:
        raise ValueError(
            f"voxels cannot be compared row by row: the student's are {student.grid}, the teacher's {teacher.grid}; "
            'give both one grid, or compare bird-eye-view features'
        )
    if not torch.equal(student.coors, teacher.coors):
        raise ValueError(
            f'voxels cannot be compared row by row: the student has {len(student.coors)}, the teacher '
            f'{len(teacher.coors)} on the same grid ({student.grid}); let the distiller voxelise once for both '
            "(view='same' on the teacher)"
        )

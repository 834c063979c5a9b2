"""What a voxel encoder returns, together with where each row lies."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class VoxelFeatures:
    """Features of the voxels (or pillars) that hold points, one row each, all samples of a batch one after another.

    Args:
        features: (V, C).
        coors: (V, 4) integer ``(sample, z, y, x)`` cells of the grid.
        num_points: (V,) points in each voxel, cut at what the voxelisation keeps.
    """

    features: Tensor
    coors: Tensor
    num_points: Tensor

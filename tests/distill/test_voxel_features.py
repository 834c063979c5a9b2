"""Rows of two sets of voxels are compared by their grids and by their coordinates."""

import pytest
import torch

from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures, VoxelGrid, Voxels, require_same_rows

GRID = VoxelGrid((0.16, 0.16, 4), (0, -40, -3, 70, 40, 1), 32)
COORS = torch.tensor([[0, 0, 1, 2], [1, 0, 3, 4]])


def encoded(coors: torch.Tensor = COORS, grid: VoxelGrid = GRID) -> VoxelFeatures:
    return VoxelFeatures(torch.rand(len(coors), 8), coors, torch.ones(len(coors)), grid)


def test_equal_coordinates_pass() -> None:
    require_same_rows(encoded(), encoded(COORS.clone()))


def test_two_grids_are_named() -> None:
    other = VoxelGrid((0.2, 0.2, 4), GRID.pc_range, 32)
    with pytest.raises(ValueError, match=r"student's are 0\.16 x 0\.16 x 4 m .* teacher's 0\.2 x 0\.2 x 4 m"):
        require_same_rows(encoded(), encoded(grid=other))


@pytest.mark.parametrize('coors', [COORS[:1], COORS.flip(0)])
def test_other_rows_on_one_grid_are_refused(coors: torch.Tensor) -> None:
    with pytest.raises(ValueError, match='voxelise once'):
        require_same_rows(encoded(), encoded(coors))


def test_a_copy_of_voxels_may_be_edited() -> None:
    voxels = Voxels(torch.ones(2, 3, 4), torch.ones(2), COORS)
    voxels.copy()[0].zero_()
    assert voxels.points.min() == 1

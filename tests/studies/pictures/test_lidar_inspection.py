"""What is read off a LiDAR recipe's step is what its terms weigh."""

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.losses.local_graph import LocalGraph
from projects.mmdet3d_plugin.distill.losses.pivotal_logit import PivotalLogit
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.distill.term import Term
from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures, VoxelGrid
from projects.mmdet3d_plugin.studies.pictures.lidar_inspection import read_importance, read_pivots
from tests.distill.center_world import PC_RANGE, heads
from tests.distill.center_world import step as center_step

GRID = VoxelGrid((0.4, 0.8, 4.0), (0.0, -3.2, -3.0, 6.4, 3.2, 1.0), 32)


def term(loss: DistillLoss) -> Term:
    return Term(Tap('s'), Tap('t'), loss, torch.nn.Identity())


def world(student: object, teacher: object) -> Step:
    return Step({}, {'s': student}, {'t': teacher})


def voxels(features: Tensor, points: list[int]) -> VoxelFeatures:
    """Voxel i lies at row y = i, column x = 2 i."""
    coors = torch.tensor([[0, 0, i, 2 * i] for i in range(len(points))]).view(-1, 4)
    return VoxelFeatures(features, coors, torch.tensor(points), GRID)


def test_fullest_voxels_are_important_and_lie_where_the_grid_says() -> None:
    teacher = voxels(torch.tensor([[0.0], [5.0], [5.1], [0.1]]), [8, 2, 16, 1])
    student = voxels(torch.zeros(4, 2), [8, 2, 16, 1])
    loss = LocalGraph(channels=1, student_channels=2, num_query=2, k=2, tau=0.5)
    (found,) = read_importance({'local': term(loss)}, world(student, teacher))
    places = np.array([[0.2 + 0.8 * i, -2.8 + 0.8 * i] for i in range(4)])
    np.testing.assert_allclose(found.centres, places[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(found.neighbours, places[[[2, 1], [0, 3]]], atol=1e-6)
    phi = np.exp(np.array([1.0, 0.5]) / 0.5)
    np.testing.assert_allclose(found.weights, 2 * phi / phi.sum(), rtol=1e-6)
    assert (found.name, found.size, found.total) == ('local', (0.4, 0.8), 4)


def test_nothing_is_read_without_voxels() -> None:
    loss = LocalGraph(channels=2, student_channels=2)
    empty, maps = voxels(torch.zeros(0, 2), []), torch.zeros(1, 2, 4, 4)
    for feature in (empty, maps):
        assert read_importance({'local': term(loss)}, world(feature, feature)) == []
    assert read_importance({'other': term(PivotalLogit())}, world(empty, empty)) == []
    assert read_pivots({'other': term(loss)}, world(empty, empty)) == []


@pytest.mark.parametrize('mask', ['gaussian', 'confidence'])
def test_heatmaps_are_the_highest_of_all_tasks(mask: str) -> None:
    batch = center_step([[(2.5, 0.2), (7.1, -2.9)]], [[0, 2]]).batch
    student, teacher = heads(1, batch_size=1, size=(4, 5)), heads(0, batch_size=1)
    step = Step(batch, {'s': student}, {'t': teacher})
    (found,) = read_pivots({'logit': term(PivotalLogit(mask=mask))}, step)
    for shown, maps in ((found.teacher, teacher), (found.student, student)):
        logits = np.concatenate([task['heatmap'][0].numpy() for task in maps])
        np.testing.assert_allclose(shown, (1 / (1 + np.exp(-logits))).max(0), rtol=1e-6)
    assert found.limits == found.own == PC_RANGE
    if mask == 'confidence':
        np.testing.assert_allclose(found.weight, found.teacher, rtol=1e-6)
    else:
        assert found.weight[4, 2] > 0  # the cell of the box at (2.5, 0.2)
        assert found.weight[0, 0] == 0
        assert (found.weight <= found.teacher + 1e-9).all()

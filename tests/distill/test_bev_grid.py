"""BEV maps of different ranges, cells, frames and orders of axes are compared metre by metre."""

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.bev_grid import (
    BEVGrid,
    crop_bev,
    cropped_size,
    place_bev,
    shared_frame,
    shared_range,
)
from projects.mmdet3d_plugin.distill.connectors import Identity, Resize
from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2
from projects.mmdet3d_plugin.distill.regions.gt_heatmap import GTHeatmap
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.distill.term import Term

SMALL, LARGE = BEVGrid([-4, -4, -5, 4, 4, 3]), BEVGrid([-8, -6, -5, 8, 6, 3])


def test_what_two_maps_share() -> None:
    assert shared_range(SMALL, BEVGrid([-4, -4, -3, 4, 4, 1]), 'x') is None  # heights do not matter
    assert shared_range(None, SMALL, 'x') is None
    assert shared_range(LARGE, SMALL, 'x') == [-4, -4, -5, 4, 4, 3]
    with pytest.raises(DistillError, match='do not overlap'):
        shared_range(SMALL, BEVGrid([4, -4, -5, 12, 4, 3]), 'x')
    far = BEVGrid([20, -4, -5, 30, 4, 3], 'ego')  # out of reach, however the frames are turned
    for pair in ((SMALL, far), (far, SMALL)):
        with pytest.raises(DistillError, match='do not overlap'):
            shared_range(*pair, 'x')
    ego = BEVGrid(LARGE.pc_range, 'ego')
    assert shared_range(SMALL, ego, 'x') == shared_range(ego, SMALL, 'x') == SMALL.pc_range
    assert (shared_frame(SMALL, ego), shared_frame(ego, ego), shared_frame(None, None)) == (
        'lidar',
        'ego',
        None,
    )
    turned = BEVGrid(SMALL.pc_range, axes='xy')
    assert shared_range(SMALL, turned, 'x') == SMALL.pc_range
    with pytest.raises(ValueError, match='axes must be one of'):
        BEVGrid(SMALL.pc_range, axes='zx')


def test_a_crop_along_cells_is_a_slice() -> None:
    feature = torch.randn(2, 3, 12, 16, dtype=torch.float64)  # LARGE, cells of 1 m
    assert cropped_size((12, 16), LARGE.pc_range, SMALL.pc_range) == (8, 8)
    torch.testing.assert_close(
        crop_bev(feature, LARGE.pc_range, SMALL.pc_range), feature[:, :, 2:10, 4:12], rtol=0, atol=1e-12
    )
    assert crop_bev(feature, LARGE.pc_range, LARGE.pc_range) is feature


def delta(grid: BEVGrid, cell: float, x: float, y: float) -> Tensor:
    """A map (1, 1, H, W) that is 1 in the cell of a place and 0 elsewhere."""
    x0, y0, _, x1, y1, _ = grid.pc_range
    bev = torch.zeros(1, 1, round((y1 - y0) / cell), round((x1 - x0) / cell))
    bev[0, 0, int((y - y0) / cell), int((x - x0) / cell)] = 1
    return bev


def make_term(student: BEVGrid, teacher: BEVGrid, **parts: object) -> Term:
    limits = shared_range(student, teacher, 'x')
    parts = {'connector': Identity(), **parts}
    return Term(Tap('s', grid=student), Tap('t', grid=teacher), FeatureL2(), limits=limits, **parts)


def make_step(student: Tensor, teacher: Tensor) -> Step:
    """A step of one sample with a box at (1.5, -2.5), range of the student's data as BEVFormer writes it."""
    box = torch.tensor([[1.5, -2.5, 0, 1, 1, 1, 0]])
    batch = dict(
        img_metas=[[dict(pc_range=list(LARGE.pc_range))]], gt_bboxes_3d=[box], gt_labels_3d=[torch.zeros(1)]
    )
    return Step(batch, {'s': student}, {'t': teacher})


def test_an_object_is_compared_in_the_same_metre() -> None:
    here = (1.5, -2.5)
    term = make_term(LARGE, SMALL)
    assert term(make_step(delta(LARGE, 1, *here), delta(SMALL, 1, *here))).item() == pytest.approx(
        0, abs=1e-12
    )
    assert term(make_step(delta(LARGE, 1, *here), delta(SMALL, 1, here[0] + 1, here[1]))) > 0
    outside = delta(LARGE, 1, *here) + delta(LARGE, 1, 7.5, 5.5)  # where the teacher sees nothing
    assert term(make_step(outside, delta(SMALL, 1, *here))).item() == pytest.approx(0, abs=1e-12)


def test_cells_of_another_size_are_resized_and_regions_are_drawn_on_what_is_shared() -> None:
    here = (1.5, -2.5)
    term = make_term(LARGE, SMALL, connector=Resize(), region=GTHeatmap())
    fine = delta(SMALL, 0.5, *here)
    step = make_step(delta(LARGE, 1, *here), fine)
    student, teacher = term.features(step)
    assert student.shape == teacher.shape == (1, 1, 16, 16)
    region = term.region(term._narrowed(step), teacher)
    assert region[0, 0].flatten().argmax() == fine.flatten().argmax()
    assert step.batch['img_metas'][0][0]['pc_range'] == list(LARGE.pc_range)


GRIDS = {
    'itself': (BEVGrid([-8, -8, -5, 8, 8, 3]), 1.0),
    'finer': (BEVGrid([-8, -8, -5, 8, 8, 3]), 0.5),
    'wider': (BEVGrid([-12, -10, -5, 12, 10, 3]), 1.0),
    'rows along x': (BEVGrid([-8, -8, -5, 8, 8, 3], axes='xy'), 1.0),
    'ego': (BEVGrid([-8, -8, -5, 8, 8, 3], 'ego'), 1.0),
    'ego, rows along x': (BEVGrid([-10, -10, -5, 10, 10, 3], 'ego', axes='xy'), 0.5),
}
LIDAR_TO_EGO = np.array(
    [[0.0, 1, 0, 1], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]]
)  # a quarter turn and a metre


@pytest.mark.parametrize('name', GRIDS)
def test_a_marked_cell_lands_where_it_belongs(name: str) -> None:
    """A mark drawn in a map of any kind is found in the metres of the LiDAR frame, to the cell."""
    grid, cell = GRIDS[name]
    here = np.array([3.5, -2.5, 0, 1])  # a cell's centre
    x, y = (LIDAR_TO_EGO @ here if grid.frame == 'ego' else here)[:2]
    marked = delta(grid, cell, x, y)
    marked = marked.transpose(-1, -2) if grid.axes == 'xy' else marked
    wanted = [-8, -8, -5, 8, 8, 3]
    found = place_bev(marked, grid, wanted, 'lidar', [[dict(lidar2ego=LIDAR_TO_EGO)]])[0, 0]
    size = 16 / found.shape[-1]
    row, column = divmod(int(found.argmax()), found.shape[-1])
    assert found.max() > 0.2
    assert abs(-8 + (column + 0.5) * size - here[0]) <= size / 2
    assert abs(-8 + (row + 0.5) * size - here[1]) <= size / 2


def test_samples_turn_by_their_own_matrix() -> None:
    metas = [[dict(lidar2ego=matrix)] for matrix in (np.eye(4), LIDAR_TO_EGO)]
    grid, wanted = BEVGrid([-8, -8, -5, 8, 8, 3], 'ego'), [-8, -8, -5, 8, 8, 3]
    both = torch.rand(2, 3, 16, 16)
    placed = place_bev(both, grid, wanted, 'lidar', metas)
    for i in range(2):
        alone = place_bev(both[i : i + 1], grid, wanted, 'lidar', metas[i : i + 1])
        torch.testing.assert_close(placed[i : i + 1], alone)
    torch.testing.assert_close(placed[0], both[0])


@pytest.mark.parametrize('turned', ['student', 'teacher'])
def test_an_object_seen_in_two_frames_is_one_object(turned: str) -> None:
    """Student in one frame, teacher in the other: equal where both say the same of the world, and only there."""
    limits = [-8, -8, -5, 8, 8, 3]
    grids = {name: BEVGrid(limits, 'ego' if name == turned else 'lidar') for name in ('student', 'teacher')}
    box = torch.tensor([[3.5, -2.5, 0, 1, 1, 1, 0]])
    metas = [[dict(pc_range=limits, lidar2ego=LIDAR_TO_EGO)]]

    def loss(x: float, y: float) -> float:
        places = {'lidar': np.array([3.5, -2.5]), 'ego': (LIDAR_TO_EGO @ np.array([x, y, 0, 1]))[:2]}
        maps = {name: delta(grid, 1, *places[grid.frame]) for name, grid in grids.items()}
        batch = dict(img_metas=metas, gt_bboxes_3d=[box], gt_labels_3d=[torch.zeros(1)])
        term = make_term(grids['student'], grids['teacher'], region=GTHeatmap())
        return term(Step(batch, {'s': maps['student']}, {'t': maps['teacher']})).item()

    assert loss(3.5, -2.5) == pytest.approx(0, abs=1e-9)
    assert loss(2.5, -2.5) > 1e-3


def test_frames_need_a_matrix_between_them() -> None:
    with pytest.raises(DistillError, match="no 'lidar2ego'"):
        place_bev(
            torch.zeros(1, 1, 4, 4),
            BEVGrid([-2, -2, -5, 2, 2, 3], 'ego'),
            [-2, -2, -5, 2, 2, 3],
            'lidar',
            [{}],
        )

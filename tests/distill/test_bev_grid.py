"""BEV maps of different ranges are compared metre by metre; of different frames, not at all."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid, crop_bev, cropped_size, shared_range
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
    with pytest.raises(DistillError, match="lidar frame, the teacher's in the ego frame"):
        shared_range(SMALL, BEVGrid(SMALL.pc_range, 'ego'), 'x')


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

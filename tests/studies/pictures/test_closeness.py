"""How far a student's BEV feature is from its teacher's, cell by cell."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from projects.mmdet3d_plugin.distill.teachers.self_teacher import SelfTeacher
from projects.mmdet3d_plugin.studies.pictures.closeness import Closeness, measure_closeness
from tests.distill.toy_host import ToyAdapter, ToyBEVHost, toy_batch


def _distiller() -> Distiller:
    torch.manual_seed(0)
    student, teacher = ToyBEVHost(6, 16), ToyBEVHost(6, 16)
    student.load_state_dict(teacher.state_dict())
    return Distiller(student, FrozenTeacher.from_model(teacher), {})


def test_a_copy_of_the_teacher_has_no_gap_and_a_student_of_zeros_has_all_of_it(tmp_path: Path) -> None:
    distiller, batches = _distiller(), [toy_batch(1, seed=seed) for seed in range(3)]
    same = measure_closeness(distiller, batches)
    assert same.gap.shape == (16, 16)
    assert same.samples == 3
    assert same.inside == same.outside == 0
    torch.nn.init.zeros_(distiller.student.encoder.weight)
    torch.nn.init.zeros_(distiller.student.encoder.bias)
    nothing = measure_closeness(distiller, batches)
    assert nothing.gap.mean() == pytest.approx(1, rel=1e-4)
    nothing.write(tmp_path / 'gap.json')
    read = Closeness.read(tmp_path / 'gap.json')
    assert (read.inside, read.outside) == (nothing.inside, nothing.outside)
    np.testing.assert_array_equal(read.gap, nothing.gap)
    for damaged in ('{}', '[1]', '{"gap": "x"}', '{"gap": [[1]], "mine": 2}'):
        (tmp_path / 'gap.json').write_text(damaged)
        with pytest.raises(UserError, match=r'gap\.json is damaged: delete it and run again'):
            Closeness.read(tmp_path / 'gap.json')


def test_a_gap_where_the_objects_are_counts_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    distiller, batch = _distiller(), toy_batch(1)
    batch['gt_bboxes_3d'] = [torch.tensor([[-4.0, -4.0, 0.0, 6.0, 6.0, 1.5, 0.0]])]  # of a map of +-8 m
    infer = distiller.student.encoder.forward

    def wrong_there(x: torch.Tensor) -> torch.Tensor:
        bev = infer(x).clone()
        bev[..., 2:6, 2:6] += 1
        return bev

    monkeypatch.setattr(distiller.student.encoder, 'forward', wrong_there)
    found = measure_closeness(distiller, [batch])
    assert found.outside == 0
    assert found.inside > 0
    assert (found.gap > 0).sum() == 16


def test_a_network_that_teaches_itself_has_no_gap_to_itself() -> None:
    student = ToyBEVHost(6, 16)
    with pytest.raises(UserError, match='a SelfTeacher has no BEV feature but that of its student'):
        measure_closeness(Distiller(student, SelfTeacher(student), {}), [toy_batch(1)])


def test_a_gap_between_features_of_other_widths_is_refused() -> None:
    distiller = Distiller(ToyBEVHost(6, 16), FrozenTeacher.from_model(ToyBEVHost(4, 16)), {})
    with pytest.raises(UserError, match='has 6 channels and the teacher'):
        measure_closeness(distiller, [toy_batch(1)])


@pytest.mark.parametrize('frame', ['lidar', 'ego'])
def test_maps_of_other_ranges_are_compared_metre_by_metre(
    monkeypatch: pytest.MonkeyPatch, frame: str
) -> None:
    """A teacher that sees half as far says the same of what both see: no gap. What lies in the car's frame is refused."""
    grids = {16: BEVGrid([-8, -8, -5, 8, 8, 3], frame), 8: BEVGrid([-4, -4, -5, 4, 4, 3], frame)}
    taps = ToyAdapter.aliases

    def with_grids(self: ToyAdapter, model: ToyBEVHost) -> dict[str, list]:
        return {'bev': [replace(tap, grid=grids[model.bev_size]) for tap in taps(self, model)['bev']]}

    monkeypatch.setattr(ToyAdapter, 'aliases', with_grids)
    student, teacher = ToyBEVHost(6, 16), FrozenTeacher.from_model(ToyBEVHost(6, 8))
    world = torch.rand(1, 6, 16, 16)
    monkeypatch.setattr(student.encoder, 'forward', lambda x: world)
    monkeypatch.setattr(teacher.model.encoder, 'forward', lambda x: world[..., 4:12, 4:12])
    distiller, batch = Distiller(student, teacher, {}), toy_batch(1)
    batch['gt_bboxes_3d'] = [torch.tensor([[3.0, 3.0, 0.0, 2.0, 2.0, 1.5, 0.0]])]
    if frame == 'ego':
        with pytest.raises(UserError, match=r"give both detectors model\.frame='lidar'"):
            measure_closeness(distiller, [batch])
        return
    found = measure_closeness(distiller, [batch])
    assert found.gap.max() < 1e-10
    assert found.pc_range == [-4, -4, -5, 4, 4, 3]

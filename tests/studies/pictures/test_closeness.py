"""How far a student's BEV feature is from its teacher's, cell by cell."""

from pathlib import Path

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from projects.mmdet3d_plugin.distill.teachers.self_teacher import SelfTeacher
from projects.mmdet3d_plugin.studies.pictures.closeness import Closeness, measure_closeness
from tests.distill.toy_host import ToyBEVHost, toy_batch


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

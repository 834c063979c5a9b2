"""The benchmark of a distillation step runs what training runs, and counts every part."""

import json
from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.distill.distiller import HEAD, Distiller
from tests.distill.readings import reading
from tools.benchmark.measure import distill_step
from tools.benchmark.measure.distill_step import build, main, make_sure, noise_step, run_term, term_cases
from tools.benchmark.timing import Memory

RECIPE = 'projects/configs/synthetic/distill_fd3d.py'
TERMS = ['pv_generation_0', 'pv_generation_1', 'bev_generation', 'bev_focal']
BOTH = f"""
from projects.configs._base_.recipes import boxes_row, pint_teacher, near_lidar, two_teachers

_base_ = ['{Path(RECIPE).resolve()}']
distiller = two_teachers(pint_teacher(), near_lidar(), boxes_row())
"""


@pytest.fixture(scope='module')
def built() -> tuple[Distiller, dict]:
    return build(RECIPE, 20, 'cpu')


def test_noise_has_the_shapes_of_a_real_step(built: tuple[Distiller, dict]) -> None:
    distiller, batch = built
    with torch.no_grad():
        _, real = distiller.run_models(batch)
    noise = noise_step(distiller, batch)
    for name in distiller.terms:
        for one, two in zip(*(distiller.distill[name].features(step) for step in (real, noise)), strict=True):
            assert one.shape == two.shape
    assert noise.queries.sampling(None).locations.shape == real.queries.sampling(None).locations.shape
    assert (noise.queries.confidence[-1] >= 0.1).sum() == 20


def test_terms_work_by_themselves_and_train_their_parts(built: tuple[Distiller, dict]) -> None:
    distiller, batch = built
    step = noise_step(distiller, batch)
    names = []
    for name, case in term_cases(distiller, step):
        names.append(name)
        case(True)
        parts = [p for p in distiller.distill[name].parameters() if p.requires_grad]
        assert all(p.grad is not None for p in parts)
    assert names == [HEAD, *TERMS]
    run_term(distiller.distill['bev_generation'], step, backward=False)
    assert all(p.grad is None for p in distiller.distill['bev_generation'].parameters())


def test_every_teacher_sees_its_own_view_and_terms_compare_with_the_one_they_name(tmp_path: Path) -> None:
    """A camera and a LiDAR teacher at once; boxes are near the true ones, since random weights are sure of none."""
    (tmp_path / 'both.py').write_text(BOTH)
    distiller, batch = build(str(tmp_path / 'both.py'), 20, 'cpu')
    assert {'teacher_camera_img', 'teacher_camera_img_metas', 'teacher_lidar_points'} < batch.keys()
    step = noise_step(distiller, batch)
    assert list(step.by_teacher) == ['camera', 'lidar']
    (found,) = step.by_teacher['lidar'].detections
    assert (found.boxes.tensor[:, :2] - batch['gt_bboxes_3d'][0].tensor[:, :2]).abs().max() < 2
    assert {'lidar_regions', 'lidar_queries', *TERMS} == set(distiller.terms)
    for name in ('lidar_regions', 'lidar_queries'):
        assert distiller.distill[name].taught_by == 'lidar'
        run_term(distiller.distill[name], step, backward=True)
    assert all(p.grad is not None for p in distiller.distill['lidar_regions'].parameters())


def test_sure_queries_lie_near_true_boxes() -> None:
    truth = torch.tensor([[10.0, 5, 0, 4, 2, 2, 0.3], [-20.0, 8, 0, 1, 1, 2, 0.0]])
    found = make_sure(reading(torch.zeros(1, 6, 7), torch.full((1, 6, 3), 0.5), layers=2), truth, 4)
    assert found.scores[:, :, 4:].max() < 0.1
    assert found.confidence[:, :, :4].min() > 0.1
    gap = (found.boxes[-1, 0, :4, :2] - truth[[0, 1, 0, 1], :2]).norm(dim=-1)
    assert gap.max() < 3
    torch.testing.assert_close(found.boxes[0, 0, 0, 3:], truth[0, 3:])


def test_report_holds_the_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that gives every call its own duration."""
    ms = {'teacher forward': 30.0, 'student step': 20.0, 'distillation step': 55.0}
    monkeypatch.setattr(
        distill_step, 'interleaved', lambda cases, *_, **__: {name: ms.get(name, 1.0) for name in cases}
    )
    monkeypatch.setattr(distill_step, 'memory', lambda case, device: Memory(7.0, 1.0))
    report = main(['--recipe', RECIPE, '--json', str(tmp_path / 'report.json')])
    assert report['ratio'] == pytest.approx(1.1)
    assert list(report['terms']) == [HEAD, *TERMS]
    assert json.loads((tmp_path / 'report.json').read_text())['ms'] == ms

"""Recipes of the LiDAR branch build as they stand; the scaled-down ones take a training step."""

from functools import cache
from pathlib import Path

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from tests.lidar_factories import lidar_batch

ROOM = Path('projects/configs/lidar/distill')
# A recipe that another one extends is built as a part of that one.
# test_self_recipes.py has those without a trained teacher.
FULL = sorted(
    p for p in ROOM.glob('*.py') if not any(ROOM.glob(f'{p.stem}_*.py')) and not p.stem.startswith('self_')
)
WORLD = Path('projects/configs/synthetic')
PINT = sorted(WORLD.glob('kitti_distill_*.py'))


@cache
def build(path: Path) -> tuple[Config, Distiller]:
    """A recipe and its distiller, without trained weights."""
    cfg = load_config(str(path))
    for source in (
        cfg.distiller.teacher,
        *(part.get('source', {}) for part in cfg.distiller.get('initialize', [])),
    ):
        if source.pop('checkpoint', None):
            source.random_weights = True
    return cfg, build_distiller(cfg)


@pytest.mark.parametrize('path', [*FULL, *PINT], ids=lambda path: path.stem)
def test_recipe_builds_and_agrees_with_its_teacher(path: Path) -> None:
    cfg, distiller = build(path)
    assert bool(distiller.distill) == bool(cfg.distiller.terms or cfg.distiller.get('head'))
    assert distiller.teacher.classes == list(cfg.class_names)
    assert distiller.teacher.view == 'same'
    assert bool(distiller.targets) == ('_label' in path.stem)
    assert bool(distiller.initializers) == path.stem.endswith('_tgi')


def test_published_settings() -> None:
    local = build(ROOM / 'pointdistiller_pointpillars_kitti_4x.py')[1].distill['local']
    assert (local.weight, local.loss.num_query, local.loss.k) == (2.0, 6000, 128)
    assert local.loss.teacher_adapter.linear.weight.shape == (32, 128)
    assert local.loss.student_adapter.linear.weight.shape == (32, 64)


@pytest.mark.parametrize('host', ['pointpillars', 'second', 'point_rcnn'])
@pytest.mark.parametrize('ratio', [2, 4, 8, 16])
def test_pointdistiller_teaches_students_of_all_ratios(host: str, ratio: int) -> None:
    cfg = load_config(str(ROOM / f'pointdistiller_{host}_kitti_{ratio}x.py'))
    assert cfg.model == load_config(f'projects/configs/lidar/{host}_kitti_{ratio}x.py').model


def test_stages_of_second_are_two_terms() -> None:
    terms = build(ROOM / 'pointdistiller_second_kitti_4x.py')[1].distill
    widths = [term.loss.teacher_adapter.linear.in_features for term in terms.values()]
    assert (list(terms), widths) == (['local_0', 'local_1'], [256, 512])


@pytest.mark.parametrize('path', sorted(ROOM.glob('sparsekd*_label.py')), ids=lambda path: path.stem)
def test_sparsekd_knows_what_both_heatmaps_cover(path: Path) -> None:
    cfg = load_config(str(path))
    teacher = load_config(cfg.distiller.teacher.config)
    for term in cfg.distiller.terms:
        assert list(term.pc_range) == list(cfg.point_cloud_range)
        assert list(term.get('teacher_range', term.pc_range)) == list(teacher.point_cloud_range)
    assert {'s': 10.0, 'xs': 15.0, 'xxs': 15.0}.get(path.stem.split('_')[3], 7.0) == cfg.distiller.terms[
        0
    ].weight


@pytest.mark.parametrize('student', ['voxel_s', 'voxel_xs', 'voxel_xxs', 'pillar_v064'])
def test_published_students_start_from_the_teacher_in_all_their_weights(student: str) -> None:
    distiller = build(ROOM / f'sparsekd_cp_{student}_waymo_label_tgi.py')[1]
    (_, initializer), *_ = distiller.initializers
    report = initializer(distiller.student, distiller.adapter, distiller.teacher)
    assert report.left == []
    assert bool(report.resized) == student.startswith('voxel')


@pytest.mark.parametrize('path', PINT, ids=lambda path: path.stem)
def test_pint_sized_recipe_takes_a_step(path: Path) -> None:
    cfg, distiller = build(path)
    distiller.init_weights()
    batch = lidar_batch([0, 1])
    for meta in batch['img_metas']:
        meta['pc_range'] = list(cfg.point_cloud_range)
    losses = distiller(**batch)
    taught = [value for name, value in losses.items() if name.startswith('loss_kd_')]
    assert len(taught) == len(distiller.distill)
    assert all(value.isfinite() and value.requires_grad for value in taught)
    # untrained anchors give every class a hundredth, which DecoupledLogits passes over
    assert all(value > 0 for value in taught) or path.stem.endswith(('_same_stage', '_cross_stage'))

"""Recipes of the LiDAR branch build as they stand; the pint-sized ones take a training step."""

from functools import cache
from pathlib import Path

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.distill.distiller import Distiller, build_distiller
from projects.mmdet3d_plugin.engine.config import load_config
from tests.lidar_factories import lidar_batch

FULL = sorted(Path('projects/configs/lidar/distill').glob('*.py'))
PINT = sorted(Path('projects/configs/synthetic').glob('kitti_distill_*.py'))


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
    assert distiller.distill
    assert distiller.teacher.classes == list(cfg.class_names)
    assert distiller.teacher.view == 'same'
    assert bool(distiller.targets) == ('_label' in path.stem)
    assert bool(distiller.initializers) == path.stem.endswith('_tgi')


def test_published_settings() -> None:
    local = build(Path('projects/configs/lidar/distill/pointdistiller_pointpillars_kitti_4x.py'))[1].distill[
        'local'
    ]
    assert (local.weight, local.loss.num_query, local.loss.k) == (2.0, 6000, 128)
    assert local.loss.teacher_adapter.linear.weight.shape == (32, 128)
    assert local.loss.student_adapter.linear.weight.shape == (32, 64)


def test_stages_of_second_are_two_terms() -> None:
    terms = build(Path('projects/configs/lidar/distill/pointdistiller_second_kitti_4x.py'))[1].distill
    widths = [term.loss.teacher_adapter.linear.in_features for term in terms.values()]
    assert (list(terms), widths) == (['local_0', 'local_1'], [256, 512])


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
    assert all(value.isfinite() and value > 0 for value in taught)

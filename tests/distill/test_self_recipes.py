"""Recipes of detectors that teach themselves, at full size and scaled down."""

from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.distill.recipe import build_distiller, build_training
from tests.lidar_factories import lidar_batch

FULL = Path('projects/configs/lidar/distill')
PINT = Path('projects/configs/synthetic')
ROWS = ('cotrain', 'stopped', 'deep', 'temperature', 'roi', 'subheads', 'decoupled', 'all')


def file_of(host: str, row: str) -> str:
    """A recipe of full size; everything on has no further name."""
    return str(FULL / f'self_{host}_kitti{"" if row == "all" else "_" + row}.py')


@pytest.mark.parametrize('row', ROWS)
def test_every_row_leaves_its_host_as_it_is(row: str) -> None:
    """All rows of one host train one detector; twins of two sizes have the same terms."""
    pint = load_config(str(PINT / f'kitti_self_{row}.py'))
    assert pint.model == load_config(str(PINT / 'kitti_pointpillars_teacher.py')).model
    for host, epochs in (('second', 40), ('pointpillars', 80)):
        cfg = load_config(file_of(host, row))
        assert cfg.model == load_config(f'projects/configs/lidar/{host}_kitti.py').model
        assert cfg.runner.max_epochs == epochs
        assert set(cfg.distiller.terms) == set(pint.distiller.terms)
        for name, term in cfg.distiller.terms.items():
            schedule = term.pop('schedule', None)
            assert schedule in (None, [(0, 0.0), (epochs, 1.0)])
            assert term == {k: v for k, v in pint.distiller.terms[name].items() if k != 'schedule'}


@pytest.mark.parametrize(('host', 'row'), [('second', 'decoupled'), ('pointpillars', 'all')])
def test_full_size_builds(host: str, row: str) -> None:
    distiller = build_distiller(load_config(file_of(host, row)))
    assert list(distiller.distill) == ['heads', 'sub_head', 'head']
    assert distiller.teacher.classes == ['Pedestrian', 'Cyclist', 'Car']
    assert distiller.distill['sub_head'].loss.stem[0].in_channels == {'second': 256, 'pointpillars': 64}[host]


@pytest.mark.parametrize('row', ['stopped', 'temperature', 'all'])
def test_scaled_down_rows_take_a_step(row: str) -> None:
    torch.manual_seed(0)
    distiller, cfg = build_training(load_config(str(PINT / f'kitti_self_{row}.py')))
    distiller.set_epoch(3.0)
    losses = distiller.train_step(lidar_batch([0, 1]), None)['log_vars']
    assert {f'loss_kd_{name}' for name in cfg.distiller.terms} < set(losses)
    assert all(value > 0 for name, value in losses.items() if 'loss_kd' in name)
    assert ('loss_rcnn_class' in losses) == (row == 'temperature')

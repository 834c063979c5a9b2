"""A distilled student of every host goes on from its own checkpoint to the bit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import (
    load_weights,
    plain_state,
    read_checkpoint,
    write_checkpoint,
)
from projects.mmdet3d_plugin.common.config import config_text, load_config
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.engine import train
from projects.mmdet3d_plugin.engine.resume import load_optimizer
from tests.distill.bevformer_pair import student_config
from tests.engine.test_distill import shrunken
from tests.engine.test_train import assert_same_end
from tests.factories import pint_detr3d_config
from tests.lidar_factories import centerpoint_config, pillar_config, second_config

HOSTS = dict(
    bevformer=student_config,
    detr3d=pint_detr3d_config,
    bevdepth=lambda: load_config('projects/configs/synthetic/bevdepth_near_student.py').model,
    pointpillars=pillar_config,
    second=second_config,
    centerpoint_pillar=centerpoint_config,
    centerpoint_voxel=lambda: centerpoint_config(sparse=True),
)


def build(config: Callable[[], dict[str, Any]], seed: int) -> tuple[Distiller, torch.optim.Optimizer]:
    """A distiller of a small host under itself, and an optimizer after one step with gradients by chance."""
    torch.manual_seed(seed)
    teacher = dict(config=dict(model=config()), random_weights=True)
    on = 'bev' if config is not pint_detr3d_config else 'pv'
    terms = [dict(type='FeatureL2', name='imitation', on=on, connector='conv1x1')]
    distiller = build_distiller(
        Config(dict(model=config(), distiller=dict(type='Distiller', teacher=teacher, terms=terms)))
    )
    distiller.init_weights()
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=0.1)
    for parameter in distiller.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return distiller, optimizer


@pytest.mark.parametrize('host', list(HOSTS))
def test_weights_and_moments_come_back(tmp_path: Path, host: str) -> None:
    distiller, optimizer = build(HOSTS[host], 0)
    path = tmp_path / 'epoch_1.pth'
    write_checkpoint(path, dict(state_dict=plain_state(distiller), optimizer=optimizer.state_dict()))
    fresh, moments = build(HOSTS[host], 1)
    wanted = distiller.state_dict()
    assert any(not torch.equal(value, wanted[name]) for name, value in fresh.state_dict().items())
    report = load_weights(fresh, path)
    assert set(report.matched) == set(wanted)
    load_optimizer(moments, read_checkpoint(path)['optimizer'], path)
    assert all(torch.equal(value, wanted[name]) for name, value in fresh.state_dict().items())
    for one, other in zip(optimizer.state.values(), moments.state.values(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    other, _ = build(HOSTS[host], 2)
    other.load_state_dict(distiller.state_dict())
    assert all(torch.equal(value, wanted[name]) for name, value in other.state_dict().items())


def test_what_does_not_fit_a_distiller_has_the_names_of_the_file(tmp_path: Path) -> None:
    distiller, _ = build(pillar_config, 0)
    state = plain_state(distiller)
    del state['bbox_head.conv_cls.bias']
    state['bbox_head.unknown'] = torch.zeros(1)
    state['bbox_head.conv_reg.bias'] = torch.zeros(3)
    report = load_weights(distiller, dict(state_dict=state), strict=False)
    assert report.missing == ['bbox_head.conv_cls.bias']
    assert report.unexpected == ['bbox_head.unknown']
    assert [name for name, *_ in report.mismatched] == ['bbox_head.conv_reg.bias']
    assert 'bbox_head.unknown' not in report.matched
    assert load_weights(distiller, dict(state_dict=state), allow=['bbox_head.']).fits


def test_wrapped_datasets_go_on_to_the_bit(tiny_nuscenes: Path, tmp_path: Path) -> None:
    """All wrappers around one another, through tools/train.py and ``--resume auto``."""
    cfg = shrunken('bevformer_student.py', tiny_nuscenes, 5, (32, 18))
    inner = cfg.data.train
    balanced = dict(type='ClassBalancedDataset', oversample_thr=0.5, dataset=inner)
    wrapped = [dict(type='RepeatDataset', times=1, dataset=balanced), dict(type='CBGSDataset', dataset=inner)]
    cfg.data.train = dict(type='ConcatDataset', datasets=wrapped)
    cfg.data.samples_per_gpu, cfg.data.workers_per_gpu = 8, 0
    cfg.merge_from_dict({'runner.max_epochs': 2, 'log_config.hooks': [dict(type='TextLoggerHook')]})
    (tmp_path / 'config.py').write_text(config_text(cfg))
    command = [str(tmp_path / 'config.py'), '--device', 'cpu', '--no-validate', '--seed', '1', '--work-dir']
    train.main([*command, str(tmp_path / 'straight')])
    shutil.copytree(tmp_path / 'straight', tmp_path / 'parts', symlinks=True)
    (tmp_path / 'parts/epoch_2.pth').unlink()
    train.main([*command, str(tmp_path / 'parts'), '--resume', 'auto'])
    assert_same_end(tmp_path / 'straight/epoch_2.pth', tmp_path / 'parts/epoch_2.pth')

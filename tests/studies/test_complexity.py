"""Cost of the published models, against the published figures."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import get_model_complexity_info
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.nuscenes_rig import nuscenes_rig
from projects.mmdet3d_plugin.studies.complexity import (
    Complexity,
    PublishedRule,
    main,
    measure_complexity,
    measure_forward,
    rig_batch,
)
from projects.mmdet3d_plugin.studies.op_counter import OpCounter

CONFIGS = Path('projects/configs/bevformer')


@functools.cache
def cost_of(name: str) -> Complexity:
    cfg = load_config(CONFIGS / name)
    return measure_complexity(build_model(cfg.model), *rig_batch(cfg))


def test_rig_sees_all_around() -> None:
    intrinsics, cam2lidar = nuscenes_rig()
    assert intrinsics.shape == (6, 3, 3)
    np.testing.assert_allclose(intrinsics[0, 0, 0], 1266.42)
    # optical axes in the LiDAR frame (x right, y forward): front, front right, front left, back, ...
    bearing = np.rad2deg(np.arctan2(cam2lidar[:, 0, 2], cam2lidar[:, 1, 2]))
    np.testing.assert_allclose(bearing, [0, 56, -55, -180, -109, 110], atol=1.0)
    np.testing.assert_allclose(np.linalg.det(cam2lidar[:, :3, :3]), 1)


@pytest.mark.parametrize(
    ('name', 'shape', 'published', 'trainable', 'total'),
    [
        ('bevformer_base.py', (928, 1600), 1323.41, 68.71, 69.03),
        ('bevformer_small.py', (464, 800), 416.46, 58.81, 58.92),
    ],
)
def test_published_figures(name: str, shape: tuple, published: float, trainable: float, total: float) -> None:
    cost = cost_of(name)
    assert cost.image_shape == shape
    assert cost.total.published / 1e9 == pytest.approx(published, rel=0.005)
    assert cost.total.trainable / 1e6 == pytest.approx(trainable, abs=0.006)
    assert cost.total.parameters / 1e6 == pytest.approx(total, abs=0.006)


def test_computed_contains_what_the_published_rule_leaves_out() -> None:
    cost = cost_of('bevformer_small.py')
    assert cost.operations['deformable convolution'] / 1e9 == pytest.approx(133.95, rel=1e-4)
    assert cost.operations['deformable attention'] > 0
    assert cost.total.computed == sum(cost.operations.values())
    assert cost.total.computed == sum(part.computed for part in cost.parts.values())
    assert set(cost.parts) == {'backbone', 'neck', 'encoder', 'decoder', 'head'}
    assert cost.peak_bytes > 4 * cost.total.parameters


def test_published_rule_is_mmcvs() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)
    )
    reference, _ = get_model_complexity_info(model, (3, 8, 8), print_per_layer_stat=False, as_strings=False)
    counter = OpCounter(model)
    rule = PublishedRule(model, counter)
    with counter.counting():
        model(torch.zeros(1, 3, 8, 8))
    rule.remove()
    assert rule.macs['other'] == reference


def small_model_options() -> dict:
    """A model small enough to be run for real."""
    return {
        'model.img_backbone.depth': 18,
        'model.img_backbone.stage_with_dcn': (False, False, False, False),
        'model.img_backbone.style': 'pytorch',
        'model.img_neck.in_channels': [64, 128, 256, 512],
        'model.pts_bbox_head.bev_h': 20,
        'model.pts_bbox_head.bev_w': 20,
        'model.pts_bbox_head.num_query': 50,
        'data.test.pipeline.1.scale': 0.05,
    }


def test_real_forward_gives_the_memory_it_needs() -> None:
    cfg = load_config(CONFIGS / 'bevformer_small.py', small_model_options())
    model = build_model(cfg.model)
    img, metas = rig_batch(cfg)
    assert img.shape[-3:] == (3, 48, 80)
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert measure_forward(model, img, metas, 'cpu') >= weights


def test_command_line_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = [f'{key}={value}'.replace(' ', '') for key, value in small_model_options().items()]
    main(
        [
            str(CONFIGS / 'bevformer_small.py'),
            '--json',
            str(tmp_path / 'cost.json'),
            '--cfg-options',
            *options,
        ]
    )
    content = json.loads((tmp_path / 'cost.json').read_text())
    assert content['config'] == 'bevformer_small.py'
    assert content['total']['published'] > 0
    assert content['measured_peak_bytes'] is None
    said = capsys.readouterr().out
    assert 'peak memory' in said
    assert 'backbone' in said


def test_config_without_its_own_view_is_named() -> None:
    cfg = load_config(CONFIGS / 'bevformer_small.py')
    cfg.data.test.pipeline = []
    with pytest.raises(UserError, match=r'bevformer_small\.py must have one ImageView'):
        rig_batch(cfg)

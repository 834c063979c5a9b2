"""State-dict keys and shapes of the published BEVDepth models."""

import json
import logging
from pathlib import Path

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import load_weights
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from tests.hosts.bevdepth.test_parity import small_config

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = {
    'r50_256x704_1key': 'bevdepth_r50_256x704',
    'r50_256x704_2key': 'bevdepth_r50_256x704_2key',
    'r50_256x704_2key_da': 'bevdepth_r50_256x704_2key_da',
    'r50_512x1408_2key': 'bevdepth_r50_512x1408_2key',
    'r101_512x1408_2key': 'bevdepth_r101_512x1408_2key',
}


@pytest.mark.parametrize('name', CONFIGS)
def test_keys_and_shapes_equal_the_original(name: str, parity: Path) -> None:
    expected = json.loads((parity.parents[1] / 'reference/manifest_bevdepth.json').read_text())[name]
    cfg = Config.fromfile(str(ROOT / f'projects/configs/bevdepth/{CONFIGS[name]}.py'))
    with torch.device('meta'):
        state = build_model(cfg.model).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == expected


def test_weights_of_another_image_size_load_and_of_another_grid_do_not() -> None:
    model = build_model(small_config().model)
    other = small_config()
    other.model.backbone.lift_splat.image_size = (96, 192)
    state = build_model(other.model).state_dict()
    frustum = model.backbone.frustum.clone()
    model.load_state_dict(state)
    assert torch.equal(model.backbone.frustum, frustum)
    other.model.backbone.lift_splat.pc_range = [-25.6, -25.6, -5.0, 25.6, 25.6, 3.0]
    with pytest.raises(UserError, match='pc_range'):
        model.load_state_dict(build_model(other.model).state_dict())


def test_published_weights_load_by_their_own_names_and_say_how_they_were_trained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """PyTorch Lightning, which trained them, calls the detector ``model``."""
    cfg = small_config()
    model = build_model(cfg.model)
    state = {f'model.{name}': value + 1 for name, value in model.state_dict().items() if 'voxel' not in name}
    state |= {f'model.{name}': value for name, value in model.state_dict().items() if 'voxel' in name}
    with caplog.at_level(logging.WARNING):
        report = load_weights(model, dict(state_dict=state), source='published.pth')
    assert report.fits
    assert torch.equal(model.head.shared_conv.conv.weight, state['model.head.shared_conv.conv.weight'])
    assert 'published.pth: published weights of BEVDepth were trained in the ego frame' in caplog.text
    assert 'model.frame=ego and model.backbone.lift_splat.truncate=True' in caplog.text
    caplog.clear()
    cfg.model.frame, cfg.model.backbone.lift_splat.truncate = 'ego', True
    load_weights(build_model(cfg.model), dict(state_dict=state))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

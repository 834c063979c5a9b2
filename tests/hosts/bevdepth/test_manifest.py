"""State-dict keys and shapes of the published BEVDepth models."""

import json
from pathlib import Path

import pytest
import torch
from mmcv import Config

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

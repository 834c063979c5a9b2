"""State-dict keys and shapes equal those of the published models, so that their checkpoints load strictly."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmdet.models import DETECTORS

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.hosts.detr3d.published_weights import config_hint

SHARED = Path(os.environ.get('FD_SHARED', '../shared'))
# config -> name in the manifest, keys, trainable and all parameters in millions
MODELS = {
    'detr3d_r101': ('r101', 946, 53.34, 53.67),
    'detr3d_r50': ('r50', 588, 32.59, 32.87),
    'detr3d_vov': ('vov', 898, 77.51, 78.62),
}


@pytest.mark.parametrize('name', MODELS)
def test_keys_and_shapes(name: str) -> None:
    config = load_config(f'projects/configs/detr3d/{name}.py')
    with torch.device('meta'):
        model = DETECTORS.build(config.model)
    key, num_keys, trainable, total = MODELS[name]
    state = model.state_dict()
    assert len(state) == num_keys
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learned / 1e6 == pytest.approx(trainable, abs=0.006)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(total, abs=0.006)
    assert config_hint(state) == f'hint: the file is of a DETR3D that fits projects/configs/detr3d/{name}.py'
    path = SHARED / 'reference' / 'manifest_detr3d.json'
    if not path.exists():
        pytest.skip(f'{path} is not there: only the numbers of keys and parameters were compared')
    shapes = {k: list(v.shape) for k, v in state.items()}
    assert shapes == json.loads(path.read_text())[key]

"""State-dict keys and shapes equal those of the published models, so that their checkpoints load strictly."""

import json
import os
from pathlib import Path

import pytest
from mmcv import Config
from mmdet.models import DETECTORS

CONFIGS = Path('projects/configs/bevformer')
SHARED = Path(os.environ.get('FD_SHARED', '../shared'))
MODELS = {
    'bevformer_base': ('BEVFormer', 'bevformer_base', 1089, 69.03),
    'bevformer_small': ('FocalDistiller', 'bevformer_small', 1013, 58.92),
    'bevformer_small_c5_150x150': ('BEVFormer', 'bevformer_small', 1001, 59.46),
    'bevformer_tiny': ('BEVFormer', 'bevformer_tiny', 643, 33.52),
}


@pytest.mark.parametrize('name', MODELS)
def test_keys_and_shapes(name: str) -> None:
    config = Config.fromfile(str(CONFIGS / f'{name}.py'))
    model = DETECTORS.build(config.model)
    manifest, key, num_keys, millions = MODELS[name]
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    assert len(shapes) == num_keys
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    path = SHARED / 'reference' / f'manifest_{manifest}.json'
    if not path.exists():
        pytest.skip(f'{path} is not there: only the numbers of keys and parameters were compared')
    assert shapes == json.loads(path.read_text())[key]

"""Small configs on small worlds."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import plain_state, write_checkpoint
from projects.mmdet3d_plugin.common.config import CONFIG_ROOT, config_text, load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.engine.config_check import check_train_config

Change = dict[str, Any]
GONE = object()
"""Value of a change that takes a key out."""


def changed(cfg: Config, changes: Change) -> Config:
    """A copy of a config with other values at dotted paths."""
    new = Config(copy.deepcopy(cfg._cfg_dict.to_dict()))
    for path, value in changes.items():
        *folders, last = path.split('.')
        node: Any = new._cfg_dict
        for part in folders:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node.setdefault(part, {})
        if value is GONE:
            node.pop(int(last) if isinstance(node, list) else last)
        elif isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    return new


def save(cfg: Config, path: Path) -> Path:
    """Write a config without its bases, as plain Python."""
    path.write_text(config_text(cfg))
    return path


SMALLEST = {
    'image_view.size': (64, 36),
    'data.train.queue_length': 1,
    'runner.max_epochs': 1,
    'log_config.hooks': [dict(type='TextLoggerHook')],
    'evaluation': None,
    'model.pts_bbox_head.num_query': 20,
    'model.pts_bbox_head.bbox_coder.max_num': 20,
    'model.pts_bbox_head.transformer.decoder.num_layers': 1,
}
"""Makes the synthetic student so small that an epoch of the tiny world takes a second."""


@pytest.fixture(scope='session')
def camera(tiny_nuscenes: Path) -> Config:
    """The synthetic BEVFormer student, even smaller, on the tiny nuScenes."""
    cfg = changed(load_config(CONFIG_ROOT / 'synthetic/bevformer_student.py', None, tiny_nuscenes), SMALLEST)
    for split in ('train', 'val', 'test'):
        for step in cfg.data[split].pipeline:
            if step.type == 'ImageView':
                step.size = (64, 36)
    check_train_config(cfg)  # what it looks up once per process, every fork inherits
    return cfg


@pytest.fixture(scope='session')
def pillars(synthetic_kitti: Path) -> Config:
    """The synthetic PointPillars student on the synthetic KITTI."""
    changes = {'runner.max_epochs': 1, 'log_config.hooks': [dict(type='TextLoggerHook')], 'evaluation': None}
    student = load_config(CONFIG_ROOT / 'synthetic/kitti_pointpillars_student_4x.py', None, synthetic_kitti)
    cfg = changed(student, changes)
    check_train_config(cfg)
    return cfg


@pytest.fixture(scope='session')
def camera_checkpoint(camera: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint that fits ``camera``."""
    path = tmp_path_factory.mktemp('weights') / 'epoch_1.pth'
    model = build_model(copy.deepcopy(camera.model))
    model.init_weights()
    meta = dict(epoch=1, iter=4, CLASSES=list(camera.data.test.classes))
    write_checkpoint(path, dict(state_dict=plain_state(model), meta=meta))
    return path


@pytest.fixture
def mutated(tmp_path: Path) -> Callable[[Path, str, Callable[[bytes], bytes | None]], Path]:
    """Function: (world, file in it, bytes -> bytes or None to leave it out) -> a world with that file changed."""

    def mutate(world: Path, name: str, edit: Callable[[bytes], bytes | None]) -> Path:
        root = folder = tmp_path / 'world'
        source = world
        for part in (*Path(name).parts, None):
            if part is None:
                break
            folder.mkdir(exist_ok=True)
            for entry in source.iterdir():
                if entry.name != part and not (folder / entry.name).exists():
                    (folder / entry.name).symlink_to(entry)
            folder, source = folder / part, source / part
        content = edit(source.read_bytes())
        if content is not None:
            folder.write_bytes(content)
        return root

    return mutate

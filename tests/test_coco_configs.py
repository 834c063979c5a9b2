"""Configs of mmdet's 2D detectors are mmdet's, and their recipes are what their pint-sized twins are."""

from pathlib import Path

import mmdet
import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common.config import CONFIG_ROOT, load_config
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.engine.config_check import check_train_config

COCO, WORLD = CONFIG_ROOT / 'coco', CONFIG_ROOT / 'synthetic'
MIM = Path(mmdet.__file__).parent / '.mim' / 'configs'
THEIRS = {
    'retinanet_r50': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'retinanet_r101': 'retinanet/retinanet_r101_fpn_2x_coco.py',
    'gfl_r50': 'gfl/gfl_r50_fpn_1x_coco.py',
    'gfl_r101': 'gfl/gfl_r101_fpn_mstrain_2x_coco.py',
    'faster_rcnn_r50': 'faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py',
    'faster_rcnn_r101': 'faster_rcnn/faster_rcnn_r101_fpn_2x_coco.py',
    'gfl_r50_ld': 'ld/ld_r50_gflv1_r101_fpn_coco_1x.py',
}


def plain(value: object) -> object:
    """Dicts and lists without mmcv's classes, and numbers as floats."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not key.startswith('teacher_')}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize('name', THEIRS)
def test_detectors_and_schedules_are_mmdets(name: str) -> None:
    ours, theirs = load_config(COCO / f'{name}.py'), Config.fromfile(str(MIM / THEIRS[name]))
    assert plain(ours.model) == plain(theirs.model)
    for key in ('type', 'lr', 'momentum', 'weight_decay'):
        assert ours.optimizer[key] == theirs.optimizer[key]
    assert ours.lr_config.step == theirs.lr_config.step
    assert ours.runner.max_epochs == theirs.runner.max_epochs
    assert list(ours.class_names) == list(mmdet.datasets.CocoDataset.CLASSES)


@pytest.mark.parametrize('path', sorted((COCO / 'distill').glob('*.py')), ids=lambda path: path.stem)
def test_every_recipe_is_sound(path: Path) -> None:
    cfg = load_config(path)
    check_train_config(cfg)
    assert Path(cfg.distiller.teacher.config).is_file()
    assert cfg.distiller.teacher.view == 'same'


@pytest.mark.parametrize('name', ['fd3d', 'fgd'])
def test_twins_teach_alike(name: str) -> None:
    full = load_config(COCO / 'distill' / f'retinanet_r101_r50_{name}.py').distiller
    twin = load_config(WORLD / f'coco_distill_{name}.py').distiller
    assert full.terms == twin.terms
    assert full.initialize == twin.initialize


@pytest.mark.parametrize('name', ['inherit', 'cwd', 'pkd', 'fd3d', 'fgd'])
def test_pint_sized_recipes_build_and_inherit_the_whole_head(name: str) -> None:
    cfg = load_config(WORLD / f'coco_distill_{name}.py')
    cfg.distiller.teacher.pop('checkpoint')
    cfg.distiller.teacher.random_weights = True
    distiller = build_distiller(cfg)
    assert isinstance(distiller, Distiller)
    head = distiller.student.bbox_head.state_dict()
    theirs = distiller.teacher.model.bbox_head.state_dict()
    assert {key: value.shape for key, value in head.items()} == {k: v.shape for k, v in theirs.items()}

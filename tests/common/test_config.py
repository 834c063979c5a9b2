"""Finding configs and pointing them at other data."""

import contextlib
import gc
import math
import re
import sys
from pathlib import Path

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common import config
from projects.mmdet3d_plugin.common.config import (
    config_text,
    find_config,
    load_config,
    move_data_root,
    read_config,
    work_dir_of,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.builder import require_files
from projects.mmdet3d_plugin.registry import register_all


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of configs in place of the project's."""
    for name in ('bevformer/base.py', 'distiller/recipe.py', 'synthetic/twin.py', 'bevformer/twin.py'):
        path = tmp_path / 'configs' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("model = dict(type='X', lr=1)\ndata = dict(train=dict(type='D', data_root='a/'))\n")
    monkeypatch.setattr(config, 'CONFIG_ROOT', tmp_path / 'configs')
    return tmp_path / 'configs'


def test_a_bare_name_is_looked_up(root: Path) -> None:
    assert find_config('recipe.py') == root / 'distiller/recipe.py'
    assert find_config('recipe') == root / 'distiller/recipe.py'
    assert find_config(root / 'bevformer/base.py') == root / 'bevformer/base.py'


def test_a_wrong_name_names_the_nearest(root: Path) -> None:
    with pytest.raises(
        UserError, match=r'there is no config recpie\.py; did you mean \S*configs/distiller/recipe\.py'
    ):
        find_config('recpie.py')
    with pytest.raises(
        UserError, match=r'no config old/place/base\.py; did you mean \S*configs/bevformer/base\.py'
    ):
        find_config('old/place/base.py')
    with pytest.raises(UserError, match=r'twin\.py is the name of several configs'):
        find_config('twin.py')


def test_options_and_data_root_are_applied(root: Path, tmp_path: Path) -> None:
    cfg = load_config(root / 'bevformer/base.py', {'model.lr': 2}, tmp_path)
    assert cfg.model.lr == 2
    assert cfg.data.train.data_root == f'{tmp_path}/'


def test_data_root_moves_every_path_of_every_dataset(tmp_path: Path) -> None:
    inner = dict(
        type='D',
        data_root='data/nuscenes/',
        ann_file='data/nuscenes/infos.pkl',
        pipeline=[dict(db='data/nuscenes/db')],
    )
    cfg = Config(
        dict(
            data_root='data/nuscenes/',
            data=dict(
                samples_per_gpu=1,
                train=dict(type='RepeatDataset', times=2, dataset=inner),
                val=[dict(inner), dict(inner, ann_file='elsewhere.pkl')],
                test=dict(type='D', data_root='data/nuscenes', ann_file='infos.pkl'),
            ),
        )
    )
    move_data_root(cfg, tmp_path)
    train = cfg.data.train.dataset
    assert (train.data_root, train.ann_file) == (f'{tmp_path}/', f'{tmp_path}/infos.pkl')
    assert train.pipeline[0].db == f'{tmp_path}/db'
    assert [entry.ann_file for entry in cfg.data.val] == [f'{tmp_path}/infos.pkl', 'elsewhere.pkl']
    assert (cfg.data.test.data_root, cfg.data.test.ann_file) == (f'{tmp_path}/', 'infos.pkl')
    assert cfg.data_root == f'{tmp_path}/'


@pytest.mark.parametrize('here', ['', '.', './'])
def test_paths_that_lie_in_no_folder_of_the_dataset_stay(tmp_path: Path, here: str) -> None:
    dataset = dict(type='D', data_root=here, ann_file='/elsewhere/infos.pkl', pipeline=[dict(db='db/a.pkl')])
    cfg = Config(dict(data=dict(train=dataset)))
    move_data_root(cfg, tmp_path)
    assert cfg.data.train.ann_file == '/elsewhere/infos.pkl'
    assert cfg.data.train.pipeline[0].db == 'db/a.pkl'
    assert cfg.data.train.data_root == f'{tmp_path}/'


def test_a_data_root_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    cfg = Config(dict(data=dict(train=dict(type='D'))))
    with pytest.raises(UserError, match='nowhere is not a folder'):
        move_data_root(cfg, tmp_path / 'nowhere')
    with pytest.raises(UserError, match='dataset D has no data_root'):
        move_data_root(cfg, tmp_path)


def test_a_missing_info_file_says_how_to_make_it(tmp_path: Path) -> None:
    dataset = dict(type='D', data_root=f'{tmp_path}/', ann_file='infos.pkl')
    with pytest.raises(
        UserError, match=r'no info file infos\.pkl: make it with "python tools/create_data\.py'
    ):
        require_files(dataset)
    (tmp_path / 'infos.pkl').touch()
    require_files(dataset)
    require_files(dict(dataset, ann_file=str(tmp_path / 'infos.pkl')))


def test_the_command_that_mends_fits_the_dataset(tmp_path: Path) -> None:
    register_all()
    for kind, command in (
        ('KittiFrames', f'kitti --root-path {tmp_path}"'),
        ('NuScenesTemporalDataset', f'nuscenes --root-path {tmp_path} --version'),
    ):
        with pytest.raises(UserError, match=re.escape(f'python tools/create_data.py {command}')):
            require_files(dict(type=kind, data_root=str(tmp_path), ann_file='infos.pkl'))


def test_work_dir(tmp_path: Path, root: Path) -> None:
    cfg = load_config(root / 'bevformer/base.py')
    assert work_dir_of(cfg) == Path('work_dirs/base')
    assert work_dir_of(cfg, tmp_path) == tmp_path
    cfg.work_dir = 'there'
    assert work_dir_of(cfg) == Path('there')


def test_a_config_as_text_is_read_back(tmp_path: Path) -> None:
    """With a list of dicts, quotes of both kinds, and what is no literal of Python."""
    cfg = load_config('distill_heatmap.py', {'model.pts_bbox_head.num_query': 7})
    cfg.merge_from_dict(
        {'strange': {'text': 'it\'s "so"', 'limits': (math.inf, -math.inf, 1.5), 'off': math.nan}}
    )
    (tmp_path / 'written.py').write_text(config_text(cfg))
    back = read_config(tmp_path / 'written.py')
    assert math.isnan(cfg.strange.pop('off'))
    assert math.isnan(back.strange.pop('off'))
    assert back._cfg_dict.to_dict() == cfg._cfg_dict.to_dict()


@pytest.mark.parametrize('text', ['import nowhere_at_all', 'x = y', 'from math import nope', 'x = ['])
def test_an_error_in_a_config_is_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """mmcv's copy of a failed config is deleted twice, which Python would tell after our own line."""
    said: list[object] = []
    monkeypatch.setattr(sys, 'unraisablehook', said.append)
    (tmp_path / 'a.py').write_text(f'{text}\n')
    with contextlib.suppress(UserError):
        read_config(tmp_path / 'a.py')
    gc.collect()
    assert said == []

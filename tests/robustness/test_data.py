"""Mutants of tables, info files, images, clouds, calibrations and annotations."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmcv import Config

from projects.mmdet3d_plugin.datasets.converters import create_data
from projects.mmdet3d_plugin.engine import train
from tests.robustness.conftest import changed, save
from tests.robustness.forked import Ended, assert_one_line, run

INFOS = 'nuscenes_infos_temporal_train.pkl'
KITTI_INFOS = 'kitti_infos_train.pkl'
Edit = Callable[[bytes], bytes | None]
Mutate = Callable[[Path, str, Edit], Path]


class Runs:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path('executed'),)


def info(edit: Callable[[dict[str, Any]], Any]) -> Edit:
    """A change of every info of a file."""

    def change(content: bytes) -> bytes:
        read = pickle.loads(content)
        for entry in read['infos']:
            edit(entry)
        return pickle.dumps(read)

    return change


def boxes(column: int, value: float) -> Edit:
    """A number in every box."""
    return info(lambda entry: entry['gt_boxes'].__setitem__((slice(None), column), value))


def rows(edit: Callable[[list[dict[str, Any]]], Any]) -> Edit:
    """A change of a JSON table."""

    def change(content: bytes) -> bytes:
        table = json.loads(content)
        return json.dumps(edit(table) or table).encode()

    return change


def first_camera(key: str, value: Any) -> Edit:
    """A value of every front camera."""
    return info(lambda entry: entry['cams']['CAM_FRONT'].update({key: value}))


BROKEN: dict[str, Edit] = {
    'empty': lambda _: b'',
    'cut': lambda content: content[: len(content) // 2],
    'text': lambda _: b'infos\n',
    'list': lambda _: pickle.dumps([1]),
    'number': lambda _: pickle.dumps(3),
    'no infos': lambda _: pickle.dumps(dict(metadata={})),
    'infos are None': lambda _: pickle.dumps(dict(infos=None, metadata={})),
    'infos are empty': lambda _: pickle.dumps(dict(infos=[], metadata={})),
    'infos hold numbers': lambda _: pickle.dumps(dict(infos=[1, 2], metadata={})),
    'code': lambda _: pickle.dumps(dict(infos=[], metadata={}, x=Runs())),
}
CAMERA_INFOS: dict[str, Edit] = {
    **BROKEN,
    'no cameras': info(lambda entry: entry.pop('cams')),
    'no token': info(lambda entry: entry.pop('token')),
    'no names': info(lambda entry: entry.pop('gt_names')),
    'fewer names': info(lambda entry: entry.update(gt_names=entry['gt_names'][:1])),
    'boxes of 5 numbers': info(lambda entry: entry.update(gt_boxes=np.zeros((len(entry['gt_boxes']), 5)))),
    'place is not a number': boxes(0, np.nan),
    'length is infinite': boxes(3, np.inf),
    'width is negative': boxes(4, -1.0),
    'height is zero': boxes(5, 0.0),
    'yaw is not a number': boxes(6, np.nan),
    'intrinsic is not a number': first_camera('cam_intrinsic', np.full((3, 3), np.nan)),
    'intrinsic is 2x2': first_camera('cam_intrinsic', np.eye(2)),
    'image is missing': first_camera('data_path', 'samples/CAM_FRONT/nowhere.jpg'),
}
TABLES: dict[str, tuple[str, Edit]] = {
    'null': ('sample', lambda _: b'null'),
    'number': ('scene', lambda _: b'3'),
    'dict': ('sample_data', lambda _: b'{}'),
    'cut': ('sample_annotation', lambda content: content[: len(content) // 2]),
    'empty': ('ego_pose', lambda _: b''),
    'binary': ('calibrated_sensor', lambda _: b'\xff\xfe\x00'),
    'missing': ('instance', lambda _: None),
    'key gone': ('sample', rows(lambda table: [row.pop('timestamp') for row in table] and None)),
    'size is not a number': (
        'sample_annotation',
        rows(lambda table: table[0].update(size=[float('nan')] * 3)),
    ),
    'size is negative': ('sample_annotation', rows(lambda table: table[0].update(size=[-1.0, 2.0, 2.0]))),
    'rotation is zero': ('ego_pose', rows(lambda table: table[0].update(rotation=[0.0] * 4))),
    'intrinsic is not a number': (
        'calibrated_sensor',
        rows(lambda table: table[0].update(camera_intrinsic=[[float('nan')] * 3] * 3)),
    ),
    'samples in a circle': ('sample', rows(lambda table: table[1].update(next=table[1]['token']))),
    'scene without a beginning': ('scene', rows(lambda table: table[0].update(first_sample_token='nowhere'))),
}
IMAGES: dict[str, Edit] = {
    'empty': lambda _: b'',
    'text': lambda _: b'picture',
    'cut': lambda content: content[:100],
    'missing': lambda _: None,
}
LABEL = 'training/label_2'
KITTI: dict[str, tuple[str, Edit]] = {
    'calibration empty': ('training/calib', lambda _: b''),
    'calibration missing': ('training/calib', lambda _: None),
    'calibration binary': ('training/calib', lambda _: b'\xff\xfe\x00'),
    'calibration of words': ('training/calib', lambda content: content.replace(b'P2: ', b'P2: a ')),
    'calibration not a number': ('training/calib', lambda content: b'P2: ' + b'nan ' * 12 + b'\n' + content.split(b'P2:')[1].split(b'\n', 1)[1]),
    'label of words': (LABEL, lambda _: b'Car a b c d e f g h i j k l m n\n'),
    'label of 13 numbers': (LABEL, lambda _: b'Car ' + b'1 ' * 12 + b'\n'),
    'label not a number': (LABEL, lambda _: b'Car 0 0 0 1 1 50 50 nan 1.6 4 1 1.6 20 0\n'),
    'label negative': (LABEL, lambda _: b'Car 0 0 0 1 1 50 50 -1.5 1.6 4 1 1.6 20 0\n'),
    'cloud of an odd size': ('training/velodyne', lambda content: content[:-3]),
    'cloud missing': ('training/velodyne', lambda _: None),
    'image of text': ('training/image_2', lambda _: b'picture'),
}  # fmt: skip


def train_on(cfg: Config, root: Path, folder: Path) -> Ended:
    """Train on another world."""
    return run(
        train.main,
        save(cfg, folder / 'config.py'),
        '--device',
        'cpu',
        '--data-root',
        root,
        '--work-dir',
        folder / 'run',
    )


@pytest.fixture
def train_on_mutant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutated: Mutate
) -> Callable[[Config, Path, str, Edit], Ended]:
    """Train on a data root whose info file is broken; nothing in it may run."""

    def train(cfg: Config, root: Path, infos: str, edit: Edit) -> Ended:
        monkeypatch.chdir(tmp_path)
        ended = train_on(cfg, mutated(root, infos, edit), tmp_path)
        assert not (tmp_path / 'executed').exists()
        return ended

    return train


@pytest.mark.parametrize('kind', CAMERA_INFOS)
def test_info_file(camera: Config, tiny_nuscenes: Path, train_on_mutant: Callable, kind: str) -> None:
    ended = train_on_mutant(camera, tiny_nuscenes, INFOS, CAMERA_INFOS[kind])
    assert_one_line(ended, r'nuscenes_infos_temporal_train\.pkl|samples/|[Ss]ample ')


@pytest.mark.parametrize('kind', BROKEN)
def test_kitti_info_file(
    pillars: Config, synthetic_kitti: Path, train_on_mutant: Callable, kind: str
) -> None:
    ended = train_on_mutant(pillars, synthetic_kitti, KITTI_INFOS, BROKEN[kind])
    assert_one_line(ended, r'kitti_infos_train\.pkl')


@pytest.mark.parametrize('kind', TABLES)
def test_tables(tiny_nuscenes: Path, mutated: Mutate, kind: str) -> None:
    table, edit = TABLES[kind]
    root = mutated(tiny_nuscenes, f'v1.0-trainval/{table}.json', edit)
    ended = run(
        create_data.main,
        'nuscenes',
        '--root-path',
        root,
        '--version',
        'v1.0-trainval',
        '--out-dir',
        root / 'out',
    )
    assert_one_line(ended, rf'{table}|sample|scene')


@pytest.mark.parametrize('kind', IMAGES)
def test_image(camera: Config, tiny_nuscenes: Path, tmp_path: Path, mutated: Mutate, kind: str) -> None:
    name = next(iter(sorted((tiny_nuscenes / 'samples/CAM_BACK').iterdir()))).relative_to(tiny_nuscenes)
    ended = train_on(camera, mutated(tiny_nuscenes, str(name), IMAGES[kind]), tmp_path)
    assert_one_line(ended, name.name)


@pytest.mark.parametrize('kind', KITTI)
def test_kitti_frame(synthetic_kitti: Path, mutated: Mutate, kind: str) -> None:
    folder, edit = KITTI[kind]
    name = sorted((synthetic_kitti / folder).iterdir())[0].relative_to(synthetic_kitti)
    root = mutated(synthetic_kitti, str(name), edit)
    ended = run(create_data.main, 'kitti', '--root-path', root, '--out-dir', root / 'out', '--workers', 1)
    assert_one_line(ended, name.stem)


def test_data_workers_speak_in_one_line_too(
    camera: Config, tiny_nuscenes: Path, tmp_path: Path, mutated: Mutate
) -> None:
    name = next(iter(sorted((tiny_nuscenes / 'samples/CAM_BACK').iterdir()))).relative_to(tiny_nuscenes)
    root = mutated(tiny_nuscenes, str(name), lambda _: b'')
    assert_one_line(train_on(changed(camera, {'data.workers_per_gpu': 1}), root, tmp_path), name.name)

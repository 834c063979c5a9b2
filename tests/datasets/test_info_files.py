import pickle
from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.box_codec import convert_boxes
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.info_files import (
    create_command,
    find_info_file,
    load_infos,
    relative_path,
    save_infos,
)
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import NuScenesTemporalDataset

TRAIN = 'nuscenes_infos_temporal_train.pkl'


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / 'new' / TRAIN
    save_infos(dict(metadata={}, infos=[]), path)
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_infos(dict(metadata={}, infos=[lambda: 0]), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f'create_data.py nuscenes --root-path {tmp_path}'):
        find_info_file(TRAIN, tmp_path, 'nuscenes --version v1.0-mini')


def test_the_command_can_be_pasted_where_folders_have_spaces() -> None:
    assert create_command('kitti', '/my data') == "python tools/create_data.py kitti --root-path '/my data'"


def test_files_are_found_below_the_root_by_absolute_path_and_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/x.pkl').touch()
    monkeypatch.chdir(tmp_path)
    assert find_info_file('x.pkl', tmp_path / 'a', 'kitti') == tmp_path / 'a/x.pkl'
    assert find_info_file(str(tmp_path / 'a/x.pkl'), tmp_path / 'b', 'kitti') == tmp_path / 'a/x.pkl'
    assert find_info_file('a/x.pkl', Path('b'), 'kitti').samefile(tmp_path / 'a/x.pkl')


def official_file(tiny_nuscenes: Path, path: Path) -> None:
    """An info file as BEVFormer writes it: legacy boxes, no marker, the author's paths, NaN velocities."""
    content = load_infos(tiny_nuscenes / TRAIN, 'v1.0')
    for info in content['infos']:
        info['gt_boxes'] = convert_boxes(info['gt_boxes'], 'v1.0', 'legacy')
        info['gt_velocity'][-1] = np.nan
        info['lidar_path'] = './data/nuscenes/' + info['lidar_path']
        for cam in info['cams'].values():
            cam['data_path'] = '/home/someone/data/nuscenes/' + cam['data_path']
            del cam['width'], cam['height']
    save_infos(dict(metadata=dict(version='v1.0-trainval'), infos=content['infos'][::-1]), path)


def test_official_files_load_as_ours(tiny_nuscenes: Path, tmp_path: Path) -> None:
    official_file(tiny_nuscenes, tmp_path / TRAIN)
    ours = load_infos(tiny_nuscenes / TRAIN, 'v1.0')['infos']
    loaded = load_infos(tmp_path / TRAIN, 'legacy')['infos']
    scenes = [info['scene_name'] for info in loaded]
    assert scenes == ['scene-0002'] * 3 + ['scene-0001'] * 5  # as the file has them
    by_token = {info['token']: info for info in loaded}
    for info in ours:
        other = by_token[info['token']]
        assert other['lidar_path'] == info['lidar_path']
        assert other['cams']['CAM_BACK']['data_path'] == info['cams']['CAM_BACK']['data_path']
        assert np.allclose(other['gt_boxes'], info['gt_boxes'])
        assert np.allclose(other['gt_velocity'][:-1], info['gt_velocity'][:-1])
        assert (other['gt_velocity'][-1] == 0).all()
    assert [i['timestamp'] for i in loaded[3:]] == sorted(i['timestamp'] for i in loaded[3:])


def test_the_wrong_convention_is_refused(tiny_nuscenes: Path, tmp_path: Path) -> None:
    official_file(tiny_nuscenes, tmp_path / TRAIN)
    with pytest.raises(ValueError, match=r"not point where they move; set info_convention='legacy'"):
        load_infos(tmp_path / TRAIN, 'v1.0')
    with pytest.raises(ValueError, match=r"set info_convention='v1.0'"):
        load_infos(tiny_nuscenes / TRAIN, 'legacy')


def test_other_pickles_are_refused(tmp_path: Path) -> None:
    save_infos([1, 2], tmp_path / TRAIN)
    with pytest.raises(ValueError, match='not an info file'):
        load_infos(tmp_path / TRAIN, 'v1.0')
    save_infos(dict(infos=[dict(token='a', scene_token='b', timestamp=0)]), tmp_path / TRAIN)
    with pytest.raises(ValueError, match='lacks cams, can_bus, lidar_path'):
        load_infos(tmp_path / TRAIN, 'v1.0')


CHANGES = {
    'size': (lambda i: i['gt_boxes'].__setitem__((2, 3), -1), 'box 2 .* has a size that no object has'),
    'nan box': (lambda i: i['gt_boxes'].__setitem__((1, 0), np.nan), 'box 1 .* is not finite'),
    'names': (lambda i: i.update(gt_names=i['gt_names'][1:]), '8 boxes, 8 velocities and 7 names'),
    'intrinsic': (lambda i: i['cams']['CAM_BACK'].update(cam_intrinsic=np.full((3, 3), np.nan)), 'cam_intrinsic of CAM_BACK'),
    'turn': (lambda i: i['cams']['CAM_BACK'].update(sensor2lidar_rotation=np.zeros((3, 3))), 'rotation of CAM_BACK is no rot'),
    'pose': (lambda i: i.update(ego2global_rotation=[0, 0, 0, 0]), 'ego2global_rotation .* is no unit quaternion'),
    'bus': (lambda i: i['can_bus'].__setitem__(4, np.inf), 'can_bus .* is not finite'),
    'key': (lambda i: i['cams']['CAM_BACK'].pop('cam_intrinsic'), 'cam_intrinsic is missing'),
    'path': (lambda i: i.update(lidar_path=3), 'lidar_path is 3'),
    'camera path': (lambda i: i['cams']['CAM_BACK'].update(data_path=None), 'data_path is None'),
    'cameras': (lambda i: i.update(cams=[1, 2]), r'cams is \[1, 2\]'),
    'camera': (lambda i: i['cams'].update(CAM_BACK=None), 'CAM_BACK is None'),
    'pixels': (lambda i: i['cams']['CAM_BACK'].update(width=0), 'width 0 of CAM_BACK is no number of pixels'),
    'names gone': (lambda i: i.update(gt_names=None), 'gt_names is None'),
    'flag': (lambda i: i.update(valid_flag=None), '8 boxes, but valid_flag is None'),
    'flag text': (lambda i: i.update(valid_flag=['no'] * 8), '8 boxes, but valid_flag is'),
    'degrees': (lambda i: i['gt_boxes'].__setitem__((0, 6), 90), 'box 0 .* a heading that is no angle in radians'),
    'speed': (lambda i: i['gt_velocity'].__setitem__((0, 1), 1e9), 'box 0 .* is faster than any object'),
    'pose far': (lambda i: i.update(ego2global_translation=[1e30, 0, 0]), 'ego2global_translation .* is beyond 1e'),
    'time': (lambda i: i.update(timestamp='noon'), "timestamp is 'noon'"),
    'twice': (lambda i: i.update(token='scene-0001-0', timestamp=1), 'this token is there twice'),
    'same time': (lambda i: i.update(timestamp=0), 'timestamp 0 is not after that of the sample before'),
}  # fmt: skip


@pytest.mark.parametrize('kind', CHANGES)
def test_numbers_that_cannot_be_right_are_named(tiny_nuscenes: Path, tmp_path: Path, kind: str) -> None:
    change, words = CHANGES[kind]
    content = load_infos(tiny_nuscenes / TRAIN, 'v1.0')
    change(content['infos'][1])
    save_infos(content, tmp_path / TRAIN)
    with pytest.raises(UserError, match=rf'{tmp_path / TRAIN}: sample scene-0001-\d.*{words}') as caught:
        load_infos(tmp_path / TRAIN, 'v1.0')
    assert '\n' not in str(caught.value)


def test_tokens_of_another_kind_and_unknown_conventions_are_named(
    tiny_nuscenes: Path, tmp_path: Path
) -> None:
    content = load_infos(tiny_nuscenes / TRAIN, 'v1.0')
    content['infos'][1]['token'] = ['a']
    save_infos(content, tmp_path / TRAIN)
    with pytest.raises(UserError, match=r"token is \['a'\]"):
        load_infos(tmp_path / TRAIN, 'v1.0')
    save_infos(dict(content, metadata=dict(box_convention='v7')), tmp_path / TRAIN)
    with pytest.raises(UserError, match=r"'v7', which is none of .*v1.0"):
        load_infos(tmp_path / TRAIN, 'v1.0')


def test_paths_are_cut_at_the_folder_and_not_within_a_name() -> None:
    assert relative_path('/data/my_samples/nus/sweeps/LIDAR_TOP/a.bin') == 'sweeps/LIDAR_TOP/a.bin'
    assert relative_path('/data/samples/nus/sweeps/LIDAR_TOP/a.bin') == 'sweeps/LIDAR_TOP/a.bin'
    assert relative_path('data\\nuscenes\\samples\\CAM_FRONT\\a.jpg') == 'samples/CAM_FRONT/a.jpg'
    assert relative_path('images/left/a.jpg') == 'images/left/a.jpg'


def test_unlabelled_and_empty_files_are_refused_where_training_begins(
    tiny_nuscenes: Path, tmp_path: Path
) -> None:
    content = load_infos(tiny_nuscenes / TRAIN, 'v1.0')
    flagless = [dict(info, valid_flag=info['valid_flag'] & False) for info in content['infos']]
    bare = [
        {k: v for k, v in info.items() if not k.startswith(('gt_', 'valid'))} for info in content['infos']
    ]
    for infos, words in ((flagless, 'set use_valid_flag=False'), (bare, 'holds no boxes')):
        save_infos(dict(metadata={}, infos=infos), tmp_path / TRAIN)
        with pytest.raises(UserError, match=words):
            NuScenesTemporalDataset(str(tmp_path), TRAIN, [], queue_length=2)
    assert 'ann_info' not in NuScenesTemporalDataset(str(tmp_path), TRAIN, [], test_mode=True).get_frame(0)

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.converters.create_data import main
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import (
    create_kitti_infos,
    in_image,
    points_in_boxes,
)
from projects.mmdet3d_plugin.datasets.converters.kitti_files import read_points


def _load(path: Path) -> list | dict:
    return pickle.loads(path.read_bytes())


@pytest.fixture
def small(synthetic_kitti: Path, tmp_path: Path) -> Path:
    """A folder with links to the first three frames, as a person would have unpacked it."""
    for folder, end in (('velodyne', 'bin'), ('image_2', 'png'), ('calib', 'txt'), ('label_2', 'txt')):
        (tmp_path / 'training' / folder).mkdir(parents=True)
        for index in range(3):
            name = f'training/{folder}/{index:06d}.{end}'
            (tmp_path / name).symlink_to(synthetic_kitti / name)
    (tmp_path / 'ImageSets').mkdir()
    (tmp_path / 'ImageSets/train.txt').write_text('000002\n000000\n')
    (tmp_path / 'ImageSets/val.txt').write_text('000001\n')
    return tmp_path


def test_the_real_frame_gives_the_known_counts(kitti_one_frame: Path) -> None:
    (info,) = _load(kitti_one_frame / 'kitti_infos_train.pkl')
    assert info['image']['image_idx'] == 8
    assert info['image']['image_path'] == 'training/image_2/000008.png'
    assert info['image']['image_shape'].tolist() == [375, 1242]
    annos = info['annos']
    assert annos['name'].tolist() == ['Car'] * 6 + ['DontCare'] * 4
    assert annos['num_points_in_gt'].tolist() == [1325, 1900, 881, 659, 55, 162, -1, -1, -1, -1]  # mmdet3d's
    assert annos['difficulty'].tolist() == [-1, 1, -1, 1, 1, 0, -1, -1, -1, -1]
    database = _load(kitti_one_frame / 'kitti_dbinfos_train.pkl')
    assert [item['num_points_in_gt'] for item in database['Car']] == [1325, 1900, 881, 659, 55, 162]


def test_the_real_frame_has_been_cut_to_the_image_already(kitti_one_frame: Path) -> None:
    whole = read_points(kitti_one_frame / 'training/velodyne/000008.bin')
    reduced = read_points(kitti_one_frame / 'training/velodyne_reduced/000008.bin')
    assert (len(whole), len(reduced)) == (17238, 17238)


def test_objects_lie_at_the_origin_of_their_boxes(synthetic_kitti: Path) -> None:
    database = _load(synthetic_kitti / 'kitti_dbinfos_train.pkl')
    assert set(database) == {'Car', 'Pedestrian', 'Cyclist'}
    for item in (item for items in database.values() for item in items):
        points = read_points(synthetic_kitti / item['path'])
        assert len(points) == item['num_points_in_gt']
        local = item['box3d_lidar'].copy()
        local[:3] = 0
        assert (
            points_in_boxes(points[:, :3], local[None]).sum() >= len(points) - 2
        )  # one ulp from a face may count either way
    numbers = [item['group_id'] for items in database.values() for item in items]
    assert sorted(numbers) == list(range(len(numbers)))


def test_boxes_hold_the_points_that_hit_their_object(synthetic_kitti: Path) -> None:
    infos = _load(synthetic_kitti / 'kitti_infos_trainval.pkl')
    counts = np.concatenate([i['annos']['num_points_in_gt'][i['annos']['name'] != 'DontCare'] for i in infos])
    assert np.mean(counts > 0) > 0.95
    assert np.median(counts) > 30


def test_the_cut_follows_the_image(synthetic_kitti: Path) -> None:
    info = _load(synthetic_kitti / 'kitti_infos_train.pkl')[0]
    ahead, beside, behind = [20.0, 0, 0], [5.0, 20, 0], [-20.0, 0, 0]
    assert in_image(np.array([ahead, beside, behind]), info).tolist() == [True, False, False]
    reduced = read_points(synthetic_kitti / 'training/velodyne_reduced/000000.bin')
    assert in_image(reduced[:, :3], info).all()


def test_splits_are_what_the_image_sets_say(small: Path, capsys: pytest.CaptureFixture) -> None:
    create_kitti_infos(small, progress=False)
    order = {
        split: [i['image']['image_idx'] for i in _load(small / f'kitti_infos_{split}.pkl')]
        for split in ('train', 'val', 'trainval', 'test')
    }
    assert order == {'train': [2, 0], 'val': [1], 'trainval': [0, 1, 2], 'test': []}
    assert 'notice' in capsys.readouterr().out
    database = _load(small / 'kitti_dbinfos_train.pkl')
    assert {item['image_idx'] for items in database.values() for item in items} == {0, 2}


def test_frames_of_the_test_split_have_no_labels(small: Path) -> None:
    for folder in ('velodyne', 'image_2', 'calib'):
        shutil.copytree(small / 'training' / folder, small / 'testing' / folder)
    (small / 'ImageSets/test.txt').write_text('000001\n')
    create_kitti_infos(small, progress=False)
    (info,) = _load(small / 'kitti_infos_test.pkl')
    assert 'annos' not in info
    assert info['point_cloud']['velodyne_path'] == 'testing/velodyne/000001.bin'
    assert (small / 'testing/velodyne_reduced/000001.bin').is_file()


def test_workers_change_nothing(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    contents = []
    for workers in (1, 2):
        out = tmp_path_factory.mktemp('out')
        create_kitti_infos(small, out, workers, progress=False)
        contents.append(out)
    first, second = contents
    names = [path.relative_to(first) for path in sorted(first.rglob('*')) if path.is_file()]
    assert names == [path.relative_to(second) for path in sorted(second.rglob('*')) if path.is_file()]
    assert len(names) > 5 + 3
    for name in names:
        if name.suffix == '.bin':
            assert (first / name).read_bytes() == (second / name).read_bytes()
        else:  # a pickle also tells which equal strings are one object
            np.testing.assert_equal(_load(first / name), _load(second / name))


def test_a_missing_file_is_one_line_and_nothing_is_described(
    small: Path, capsys: pytest.CaptureFixture
) -> None:
    (small / 'training/calib/000001.txt').unlink()
    assert main(['kitti', '--root-path', str(small), '--workers', '1']) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'error: {small}/training/calib/000001.txt is missing')
    assert 'data_object_calib.zip' in error
    assert not list(small.glob('*.pkl'))


def test_a_wrong_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['kitti', '--root-path', str(tmp_path)]) == 1
    assert 'holds no folder training' in capsys.readouterr().err

import pickle
import re
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
from projects.mmdet3d_plugin.datasets.kitti_dataset import KittiFrames
from projects.mmdet3d_plugin.datasets.point_files import read_points


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
    assert main(['kitti', '--root-path', str(small), '--workers', '1']) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'error: {small}/training/calib/000001.txt is missing')
    assert 'data_object_calib.zip' in error
    assert not list(small.glob('*.pkl'))


def test_a_wrong_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['kitti', '--root-path', str(tmp_path)]) == 2
    assert 'holds no folder training' in capsys.readouterr().err


def _rewrite(path: Path, text: str) -> None:
    """Replace a link by a file of this frame's own."""
    path.unlink()
    path.write_text(text)


def _create(root: Path, *options: str) -> int:
    return main(['kitti', '--root-path', str(root), '--workers', '1', *options])


def test_counts_are_said(kitti_one_frame: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert _create(kitti_one_frame, '--out-dir', str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert 'training: 1 frames; objects: Car 6, DontCare 4\n' in out
    assert 'notice: 1 frames are in the training and in the validation split' in out
    assert 'no point' not in out


def test_a_folder_without_images_is_lidar_only(small: Path, capsys: pytest.CaptureFixture) -> None:
    whole = len(read_points(small / 'training/velodyne/000000.bin'))
    text = (small / 'training/calib/000000.txt').read_text()
    rows = [row for row in text.splitlines() if row.startswith(('R0_rect', 'Tr_velo_to_cam'))]
    _rewrite(small / 'training/calib/000000.txt', '\n'.join(rows))
    create_kitti_infos(small, small / 'asked', progress=False, lidar_only=True)
    assert 'LiDAR only' not in capsys.readouterr().out
    shutil.rmtree(small / 'training/image_2')
    create_kitti_infos(small, small / 'found', progress=False)
    assert 'notice: there is no folder' in capsys.readouterr().out
    asked, found = (_load(small / name / 'kitti_infos_train.pkl') for name in ('asked', 'found'))
    np.testing.assert_equal(asked, found)
    assert asked[1]['image'] == {'image_idx': 0}
    assert not asked[1]['annos']['bbox'].any()
    assert (asked[1]['annos']['difficulty'] >= 0).any()
    assert len(read_points(small / 'asked/training/velodyne_reduced/000000.bin')) == whole


def test_points_that_are_not_finite_are_left_out_and_counted(
    small: Path, capsys: pytest.CaptureFixture
) -> None:
    path = small / 'training/velodyne/000001.bin'
    points = read_points(path)
    points[::50, 3], points[1, 0] = np.nan, np.inf
    path.unlink()
    points.tofile(path)
    assert _create(small) == 0
    wrong = -(-len(points) // 50) + 1
    assert f'notice: {wrong} points of 1 frames of training are not finite' in capsys.readouterr().out
    assert np.isfinite(read_points(small / 'training/velodyne_reduced/000001.bin')).all()
    (info,) = _load(small / 'kitti_infos_val.pkl')
    assert info['point_cloud']['num_dropped'] == wrong


def test_intensities_that_are_not_kittis_are_told_at_every_door(
    small: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (small / 'training/velodyne').iterdir():
        points = read_points(path) * np.array([1, 1, 1, 255], np.float32)
        path.unlink()
        points.tofile(path)
    assert _create(small) == 0
    assert re.search(r'notice: .*bin has intensities up to \d+', capsys.readouterr().out)
    for test_mode in (False, True):
        caplog.clear()
        KittiFrames(str(small), 'kitti_infos_val.pkl', [], test_mode=test_mode)
        assert 'velodyne_reduced/000001.bin has intensities up to' in caplog.text


def test_clouds_of_five_columns_are_recognised_or_told(small: Path, capsys: pytest.CaptureFixture) -> None:
    create_kitti_infos(small, small / 'four', progress=False)
    for index in range(3):
        path = small / f'training/velodyne/{index:06d}.bin'
        points = read_points(path)
        points = points[: len(points) // 4 * 4]  # 5 columns that could be read as 4
        path.unlink()
        np.hstack([points, np.arange(len(points), dtype=np.float32)[:, None] % 64]).tofile(path)
    assert _create(small, '--load-dim', '4') != 0
    assert 'looks like 5 32-bit floats: say load_dim=5 (--load-dim 5' in capsys.readouterr().err
    assert not list(small.glob('*.pkl'))
    assert _create(small, '--load-dim', '5', '--out-dir', str(small / 'told')) == 0
    assert 'per point' not in capsys.readouterr().out
    assert _create(small) == 0
    assert (
        '000002.bin holds 5 32-bit floats per point: taken for x, y, z, intensity' in capsys.readouterr().out
    )
    four, told, five = (_load(small / name / 'kitti_infos_train.pkl') for name in ('four', 'told', '.'))
    np.testing.assert_equal(told, five)
    assert five[0]['point_cloud']['num_features'] == 5
    counts = [[info['annos']['num_points_in_gt'].clip(0).sum() for info in infos] for infos in (four, five)]
    np.testing.assert_allclose(*counts, atol=3)


def test_empty_scans_are_said_and_none_but_empty_ones_refused(
    small: Path, capsys: pytest.CaptureFixture
) -> None:
    for index in range(3):
        path = small / f'training/velodyne/{index:06d}.bin'
        path.unlink()
        path.touch()
        assert _create(small) == (2 if index == 2 else 0)
        said = capsys.readouterr()
        if index < 2:
            assert f'notice: {index + 1} frames of training keep no point, the first is 000000' in said.out
    assert 'no frame of training has a point' in said.err


@pytest.mark.parametrize(
    ('turn', 'options', 'wanted'),
    [
        ('0 1 0 0 0 0 -1 0 -1 0 0 0', (), 'no point of any frame of training lies in its image'),
        ('0 1 0 0 0 0 -1 0 -1 0 0 0', ('--lidar-only',), 'objects of training has a point in its box'),
    ],
)
def test_a_calibration_that_no_point_fits_is_refused(
    small: Path, capsys: pytest.CaptureFixture, turn: str, options: tuple[str, ...], wanted: str
) -> None:
    for index in range(3):
        path = small / f'training/calib/{index:06d}.txt'
        rows = [row for row in path.read_text().splitlines() if not row.startswith('Tr_velo')]
        _rewrite(path, '\n'.join([*rows, f'Tr_velo_to_cam: {turn}']))
    assert _create(small, *options) == 2
    error = capsys.readouterr().err
    assert wanted in error
    assert 'Tr_velo_to_cam' in error
    assert not list(small.glob('*.pkl'))


def test_an_empty_list_of_frames_is_refused(small: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ('train', 'val'):
        (small / f'ImageSets/{name}.txt').write_text('')
    assert _create(small) == 2
    assert 'list no frame' in capsys.readouterr().err

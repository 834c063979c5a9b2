from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.converters.kitti_files import (
    difficulty_of,
    frame_file,
    read_calibration,
    read_image_set,
    read_labels,
    read_points,
)

LABELS = """DontCare -1 -1 -10 0 0 9 50 -1 -1 -1 -1000 -1000 -1000 -10
Car 0.2 1 -0.5 10 20 30 60.5 1.5 1.6 3.9 1 2 30 0.25
Pedestrian 0.0 0 0.5 10 20 30 45.5 1.8 0.6 0.8 -1 2 20 -0.25
"""


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_labels_keep_dont_care_last(tmp_path: Path) -> None:
    labels = read_labels(_write(tmp_path / '0.txt', LABELS))
    assert labels['name'].tolist() == ['Car', 'Pedestrian', 'DontCare']
    np.testing.assert_array_equal(labels['dimensions'][0], [3.9, 1.5, 1.6])  # length, height, width
    np.testing.assert_array_equal(labels['location'][1], [-1, 2, 20])
    assert labels['index'].tolist() == [0, 1, -1]
    assert labels['difficulty'].tolist() == [
        1,
        1,
        -1,
    ]  # the car is hidden a little, the other is 25.5 pixels high
    assert labels['score'].tolist() == [0, 0, 0]


def test_a_file_without_objects_is_fine(tmp_path: Path) -> None:
    labels = read_labels(_write(tmp_path / '0.txt', '\n'))
    assert {key: len(value) for key, value in labels.items()} == dict.fromkeys(labels, 0)
    assert labels['bbox'].shape == (0, 4)


@pytest.mark.parametrize(
    ('height', 'occluded', 'truncated', 'wanted'),
    [(41, 0, 0.15, 0), (40, 0, 0.0, 1), (41, 1, 0.3, 1), (41, 2, 0.0, 2), (41, 0, 0.5, 2), (41, 3, 0, -1), (25, 0, 0, -1)],
)  # fmt: skip
def test_difficulty_is_the_easiest_level(height: float, occluded: int, truncated: float, wanted: int) -> None:
    labels = dict(
        name=np.array(['Car']),
        bbox=np.array([[0.0, 0, 10, height]]),
        occluded=np.array([occluded]),
        truncated=np.array([truncated]),
    )
    assert difficulty_of(labels).tolist() == [wanted]


def test_a_broken_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='a row holds 3 numbers'):
        read_labels(_write(tmp_path / '1.txt', 'Car 1 2 3\n'))
    with pytest.raises(ValueError, match=r'2.txt is no KITTI label file'):
        read_labels(_write(tmp_path / '2.txt', 'Car one two\n'))


def test_calibration_is_made_square(tmp_path: Path) -> None:
    rows = [f'P{i}: ' + ' '.join(str(i + j) for j in range(12)) for i in range(4)]
    rows += ['R0_rect: ' + ' '.join(map(str, range(9)))]
    rows += [f'{name}: ' + ' '.join(map(str, range(12))) for name in ('Tr_velo_to_cam', 'Tr_imu_to_velo')]
    calib = read_calibration(_write(tmp_path / '0.txt', '\n'.join(rows)))
    np.testing.assert_array_equal(calib['R0_rect'], [[0, 1, 2, 0], [3, 4, 5, 0], [6, 7, 8, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(calib['P2'][2], [10, 11, 12, 13])
    with pytest.raises(
        ValueError, match=r'0.txt: row P3 should hold 12 numbers; unpack data_object_calib.zip'
    ):
        read_calibration(_write(tmp_path / '0.txt', '\n'.join(rows[:3])))


def test_missing_and_broken_files_are_named_with_their_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'velodyne/000007.bin is missing.*data_object_velodyne.zip'):
        frame_file(tmp_path, 'training', 'velodyne', 7)
    with pytest.raises(FileNotFoundError, match=r'ImageSets/val.txt is missing'):
        read_image_set(tmp_path, 'val')
    (tmp_path / 'ImageSets').mkdir()
    _write(tmp_path / 'ImageSets' / 'val.txt', '000001\nx2\n')
    with pytest.raises(ValueError, match="'x2', which is no frame number"):
        read_image_set(tmp_path, 'val')
    (tmp_path / '0.bin').write_bytes(b'0' * 20)
    with pytest.raises(ValueError, match=r'0.bin does not hold whole points'):
        read_points(tmp_path / '0.bin')

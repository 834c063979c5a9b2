from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.converters.kitti_files import (
    difficulty_of,
    frame_file,
    read_calibration,
    read_image_set,
    read_image_shape,
    read_labels,
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


@pytest.mark.parametrize(
    ('row', 'wanted'),
    [
        ('Car 1 2 3', 'line 2 holds 3 numbers after the name; KITTI labels hold 14'),
        ('Car' + ' 1' * 13, 'line 2 holds 13 numbers'),
        ('Car' + ' 1' * 16, 'line 2 holds 16 numbers'),
        ('Car' + ' one' * 14, 'line 2 is no KITTI label'),
        ('Car 0 0 nan 10 20 30 60 1.5 1.6 3.9 1 2 30 0.25', 'line 2 holds numbers that are not finite'),
        ('Car 0 0 0 10 20 30 60 1.5 1.6 3.9 1 inf 30 0.25', 'line 2 holds numbers that are not finite'),
        ('DontCare 0 0 0 10 20 nan 60 -1 -1 -1 1 1 30 0.25', 'line 2 holds numbers that are not finite'),
        ('Car 0 0 0 10 20 30 60 -1.5 1.6 3.9 1 2 30 0.25', 'Car is -1.5 m high, 1.6 m wide and 3.9 m long'),
        ('Van 0 0 0 10 20 30 60 1.5 1.6 0 1 2 30 0.25', 'Van is .* and 0 m long, which cannot be'),
        ('Van 0 0 0 10 20 30 60 1.5 1e9 3 1 2 30 0.25', r'1e\+09 m wide'),
        ('Car 0 0 0 30 20 10 60 1.5 1.6 3.9 1 2 30 0.25', 'the image box of Car ends before it begins'),
    ],
)
def test_a_row_that_cannot_be_right_is_named(tmp_path: Path, row: str, wanted: str) -> None:
    path = _write(tmp_path / '1.txt', f'{LABELS.splitlines()[1]}\n{row}\n')
    with pytest.raises(UserError, match=f'1.txt, .*{wanted}'):
        read_labels(path)


def test_without_a_camera_image_boxes_say_nothing(tmp_path: Path) -> None:
    rows = 'Car 0 0 0 -1 -1 -1 -1 1.5 1.6 3.9 1 2 30 0\nCar 0 2 0 9 9 1 1 1.5 1.6 3.9 1 2 30 0\n'
    labels = read_labels(_write(tmp_path / '0.txt', rows), camera=False)
    assert labels['difficulty'].tolist() == [0, 2]
    assert not labels['bbox'].any()


def _calibration(**rows: str) -> str:
    usual = dict(
        P2='700 0 600 45 0 700 180 -0.3 0 0 1 0.005',
        R0_rect='0.8 -0.6 0 0.6 0.8 0 0 0 1',
        Tr_velo_to_cam='0 -1 0 0.1 0 0 -1 0.2 1 0 0 0.3',
    )
    return '\n'.join(f'{name}: {row}' for name, row in (usual | rows).items() if row)


def test_calibration_is_made_square_and_needs_no_more_than_is_used(tmp_path: Path) -> None:
    calib = read_calibration(_write(tmp_path / '0.txt', _calibration()))
    assert sorted(calib) == ['P2', 'R0_rect', 'Tr_velo_to_cam']
    np.testing.assert_array_equal(
        calib['R0_rect'], [[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    np.testing.assert_array_equal(calib['P2'][2], [0, 0, 1, 0.005])
    whole = '0.8 -0.6 0 0 0.6 0.8 0 0 0 0 1 0'
    for row in (whole, f'{whole} 0 0 0 1'):
        other = read_calibration(_write(tmp_path / '1.txt', _calibration(R0_rect=row, P0='1 2', P3=whole)))
        np.testing.assert_array_equal(other['R0_rect'], calib['R0_rect'])
        assert sorted(set(other) - set(calib)) == ['P3']  # what nothing reads may be broken
    assert 'P2' not in read_calibration(_write(tmp_path / '2.txt', _calibration(P2='')), camera=False)


@pytest.mark.parametrize(
    ('rows', 'wanted'),
    [
        (dict(P2=''), 'row P2 is missing, it should hold 12 numbers; .*data_object_calib.zip'),
        (dict(P2='1 2 3'), "row P2 holds '1 2 3'"),
        (dict(R0_rect='a b c d e f g h i'), 'row R0_rect holds'),
        (dict(P2='nan 0 600 45 0 700 180 -0.3 0 0 1 0.005'), 'row P2 holds numbers that are not finite'),
        (dict(P2='0 0 600 45 0 700 180 -0.3 0 0 1 0.005'), 'no pinhole camera: focal lengths 0 and 700'),
        (dict(P2='1e300 0 600 45 0 700 180 -0.3 0 0 1 0.005'), 'no pinhole camera: focal lengths 1e.300'),
        (
            dict(P2='700 0 600 45 0 700 180 -0.3 0 0 7 0.005'),
            r'no pinhole camera: .* third row \[0.0, 0.0, 7.0\]',
        ),
        (dict(R0_rect='1 0 0 0 1 0 0 0 0'), 'row R0_rect does not begin with a rotation'),
        (dict(Tr_velo_to_cam='0 -1 0 0.1 0 0 1 0.2 1 0 0 0.3'), 'row Tr_velo_to_cam does not begin with a'),
        (dict(Tr_velo_to_cam='0 -1 0 0.1 0 0 -1 1e999 1 0 0 0.3'), 'numbers that are not finite'),
    ],
)
def test_calibration_that_cannot_be_right_is_named(tmp_path: Path, rows: dict[str, str], wanted: str) -> None:
    with pytest.raises(UserError, match=f'0.txt: .*{wanted}'):
        read_calibration(_write(tmp_path / '0.txt', _calibration(**rows)))


def test_missing_and_broken_files_are_named_with_their_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'velodyne/000007.bin is missing.*data_object_velodyne.zip'):
        frame_file(tmp_path, 'training', 'velodyne', 7)
    with pytest.raises(FileNotFoundError, match=r'ImageSets/val.txt is missing'):
        read_image_set(tmp_path, 'val')
    (tmp_path / 'ImageSets').mkdir()
    for text, wanted in (
        ('000001\nx2\n', "'x2', which is no frame number"),
        ('\u00b2\n', 'which is no frame number'),
        ('000001\n000002\n1\n', 'lists 1 of its frames more than once, the first is 000001'),
    ):
        _write(tmp_path / 'ImageSets' / 'val.txt', text)
        with pytest.raises(UserError, match=wanted):
            read_image_set(tmp_path, 'val')
    (tmp_path / 'ImageSets' / 'val.txt').write_bytes(b'\xf5\xff')
    with pytest.raises(UserError, match=r'val.txt is not a text file'):
        read_image_set(tmp_path, 'val')
    with pytest.raises(UserError, match=r'val.txt is no image'):
        read_image_shape(tmp_path / 'ImageSets' / 'val.txt')


def test_a_mark_in_front_is_no_part_of_a_text(tmp_path: Path) -> None:
    mark = '\ufeff'
    row = 'Car 0 0 0 1 1 50 50 1.5 1.6 4 1 1.6 20 0\n'
    assert read_labels(_write(tmp_path / '0.txt', mark + row))['name'].tolist() == ['Car']
    assert 'P2' in read_calibration(_write(tmp_path / '1.txt', mark + _calibration()))


@pytest.mark.parametrize('end', ['1 1.6 1e12 0', '1 1.6 20 90'])
def test_objects_at_the_end_of_the_world_or_in_degrees_are_named(tmp_path: Path, end: str) -> None:
    path = _write(tmp_path / '0.txt', f'Car 0 0 0 1 1 50 50 1.5 1.6 4 {end}\n')
    with pytest.raises(UserError, match=r'0.txt, line 1: Car is at .* heading .* radians, which cannot be'):
        read_labels(path)


def test_a_row_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / '0.txt', _calibration() + '\nP2: ' + '1 ' * 12)
    with pytest.raises(UserError, match='row P2 is there more than once'):
        read_calibration(path)


def test_images_may_be_jpegs(tmp_path: Path) -> None:
    path = tmp_path / 'training/image_2/000007.jpg'
    path.parent.mkdir(parents=True)
    Image.new('RGB', (30, 20)).save(path)
    assert frame_file(tmp_path, 'training', 'image_2', 7) == path
    assert read_image_shape(path).tolist() == [20, 30]

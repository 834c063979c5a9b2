import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.geometry_utils import BoxVisibility

from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos
from projects.mmdet3d_plugin.datasets.info_files import CAMERAS, load_infos
from tests.nuscenes_tables import EGO_VELOCITY, IMAGE_SIZE

TRAIN, VAL = (f'nuscenes_infos_temporal_{part}.pkl' for part in ('train', 'val'))


@pytest.fixture
def copy(tiny_nuscenes: Path, tmp_path: Path) -> Path:
    """The tiny data root, to be broken; links would let a test reach into the original."""
    return Path(shutil.copytree(tiny_nuscenes, tmp_path / 'root', ignore=shutil.ignore_patterns('*.pkl')))


def test_boxes_of_the_real_frame_equal_the_reference(one_frame_root: Path) -> None:
    content = load_infos(one_frame_root / TRAIN, 'v1.0')
    assert content['metadata'] == dict(
        version='v1.0-mini', split='mini_train', box_convention='v1.0', can_bus=False
    )
    (info,) = content['infos']
    reference = json.loads((one_frame_root / 'lidar_frame_boxes.json').read_text())
    assert info['gt_names'].tolist() == reference['names']
    assert np.abs(info['gt_boxes'] - np.array(reference['boxes'])[:, :7]).max() < 1e-5


def test_boxes_stand_before_the_cameras_where_the_devkit_puts_them(one_frame_root: Path) -> None:
    """The chain LiDAR -> ego -> global -> ego at the camera's time -> camera."""
    (info,) = load_infos(one_frame_root / TRAIN, 'v1.0')['infos']
    nusc = NuScenes('v1.0-mini', str(one_frame_root), verbose=False)
    for name, token in nusc.get('sample', info['token'])['data'].items():
        if name == 'LIDAR_TOP':
            continue
        _, boxes, intrinsic = nusc.get_sample_data(token, box_vis_level=BoxVisibility.NONE)
        cam = info['cams'][name]
        local = (info['gt_boxes'][:, :3] - cam['sensor2lidar_translation']) @ cam['sensor2lidar_rotation']
        assert np.abs(local - [box.center for box in boxes]).max() < 1e-4
        assert np.array_equal(cam['cam_intrinsic'], intrinsic)


def test_an_empty_split_is_written_and_said(
    nuscenes_one_frame: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paths = create_nuscenes_infos(nuscenes_one_frame, 'v1.0-mini', out_dir=tmp_path, progress=False)
    assert [len(load_infos(path, 'v1.0')['infos']) for path in paths] == [1, 0]
    out = capsys.readouterr().out
    assert f'notice: {tmp_path / VAL} is empty, no scene here is in mini_val' in out
    assert out.count('ego poses stand in') == 1


def test_scenes_are_split_sorted_and_linked(tiny_nuscenes: Path) -> None:
    train = load_infos(tiny_nuscenes / TRAIN, 'v1.0')['infos']
    val = load_infos(tiny_nuscenes / VAL, 'v1.0')['infos']
    assert [i['token'] for i in train] == [f'scene-0001-{k}' for k in range(5)] + [
        f'scene-0002-{k}' for k in range(3)
    ]
    assert [i['frame_idx'] for i in val] == [0, 1, 2, 3]
    assert (val[0]['prev'], val[0]['next'], val[3]['next']) == ('', 'scene-0003-1', '')
    assert all(list(i['cams']) == list(CAMERAS) for i in train)


def test_paths_are_relative_and_sizes_recorded(tiny_nuscenes: Path) -> None:
    info = load_infos(tiny_nuscenes / TRAIN, 'v1.0')['infos'][0]
    cam = info['cams']['CAM_BACK_LEFT']
    assert cam['data_path'] == 'samples/CAM_BACK_LEFT/scene-0001-0.png'
    assert info['lidar_path'] == 'samples/LIDAR_TOP/scene-0001-0.pcd.bin'
    assert (cam['width'], cam['height']) == IMAGE_SIZE


def test_velocities_turn_into_the_lidar_frame(tiny_nuscenes: Path) -> None:
    """At frame 0 the ego yaw is -6 degrees and the LiDAR's y axis looks forward."""
    info = load_infos(tiny_nuscenes / TRAIN, 'v1.0')['infos'][0]
    angle = np.radians(-6)
    forward, left = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    velocity = np.array([8.0, 1.0])
    assert info['gt_names'][0] == 'car'
    assert np.allclose(info['gt_velocity'][0], [-velocity @ left, velocity @ forward])
    heading = info['gt_boxes'][0, 6]
    assert np.isclose(heading, np.arctan2(velocity @ forward, -velocity @ left))
    assert info['valid_flag'].tolist() == [True] * 6 + [False, True]


def test_ego_states_come_from_poses_or_from_the_can_bus(copy: Path, capsys: pytest.CaptureFixture) -> None:
    create_nuscenes_infos(copy, 'v1.0-trainval', progress=False)
    info = load_infos(copy / TRAIN, 'v1.0')['infos'][1]
    assert np.linalg.norm(info['can_bus'][13:16]) == pytest.approx(np.linalg.norm(EGO_VELOCITY))
    capsys.readouterr()
    pose = dict(
        utime=0,
        pos=[0, 0, 0],
        orientation=[1, 0, 0, 0],
        accel=[0, 0, 9],
        rotation_rate=[0] * 3,
        vel=[42, 0, 0],
    )
    (copy / 'can_bus').mkdir()
    (copy / 'can_bus/scene-0001_pose.json').write_text(json.dumps([pose]))
    create_nuscenes_infos(copy, 'v1.0-trainval', can_bus=copy, progress=False)
    content = load_infos(copy / TRAIN, 'v1.0')
    assert content['metadata']['can_bus'] is True
    assert content['infos'][1]['can_bus'][13] == 42
    assert content['infos'][6]['can_bus'][13] != 42
    assert '2 scenes have no CAN bus file (first scene-0002)' in capsys.readouterr().out


def break_version(root: Path) -> str:
    return 'v1.0-mini'


def break_table(root: Path) -> str:
    (root / 'v1.0-trainval/ego_pose.json').unlink()
    return 'v1.0-trainval'


def break_json(root: Path) -> str:
    (root / 'v1.0-trainval/instance.json').write_text('[{"token": ')
    return 'v1.0-trainval'


def break_link(root: Path) -> str:
    (root / 'v1.0-trainval/ego_pose.json').write_text('[]')
    return 'v1.0-trainval'


def break_image(root: Path) -> str:
    (root / 'samples/CAM_BACK/scene-0001-2.png').unlink()
    return 'v1.0-trainval'


def break_lidar(root: Path) -> str:
    (root / 'samples/LIDAR_TOP/scene-0003-1.pcd.bin').unlink()
    return 'v1.0-trainval'


def break_map(root: Path) -> str:
    (root / 'maps/map.png').unlink()
    return 'v1.0-trainval'


def break_channel(root: Path) -> str:
    path = root / 'v1.0-trainval/sample_data.json'
    path.write_text(
        json.dumps([r for r in json.loads(path.read_text()) if 'CAM_FRONT_LEFT' not in r['token']])
    )
    return 'v1.0-trainval'


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (
            break_version,
            'no tables of v1.0-mini in .*root; found v1.0-trainval: pass --version v1.0-trainval',
        ),
        (break_table, r'table .*ego_pose.json is missing; unpack'),
        (break_json, r'table .*instance.json is not valid JSON'),
        (break_link, r'refer to a record .*scene-0001-0'),
        (break_image, r'image file .*CAM_BACK/scene-0001-2.png is missing; unpack'),
        (break_lidar, r'LiDAR file .*scene-0003-1.pcd.bin is missing; unpack'),
        (break_map, r'map image .*map.png is missing'),
        (break_channel, r'sample scene-0001-0 has no CAM_FRONT_LEFT'),
    ],
)
def test_damage_is_one_clear_line(copy: Path, damage: Callable[[Path], str], words: str) -> None:
    version = damage(copy)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        create_nuscenes_infos(copy, version, progress=False)
    assert '\n' not in str(caught.value)
    assert not list(copy.glob('*.pkl'))


def test_an_unknown_version_and_a_missing_root_are_said(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"unknown nuScenes version 'v1.0'; choose one of v1.0-trainval, v1.0-mini"
    ):
        create_nuscenes_infos(tmp_path, 'v1.0')
    with pytest.raises(FileNotFoundError, match='does not exist; pass the folder'):
        create_nuscenes_infos(tmp_path / 'nowhere', 'v1.0-mini')


def test_sweeps_that_are_not_on_disk_are_left_out_and_counted(
    copy: Path, capsys: pytest.CaptureFixture
) -> None:
    path = copy / 'v1.0-trainval/sample_data.json'
    records = json.loads(path.read_text())
    lidar = {r['sample_token']: r for r in records if 'LIDAR_TOP' in r['token']}
    gone = dict(lidar['scene-0001-0'], token='gone', filename='sweeps/LIDAR_TOP/gone.bin', is_key_frame=False)
    lidar['scene-0001-2']['prev'] = 'gone'
    gone['prev'] = lidar['scene-0001-0']['token']
    path.write_text(json.dumps([*records, gone]))
    create_nuscenes_infos(copy, 'v1.0-trainval', progress=False)
    info = load_infos(copy / TRAIN, 'v1.0')['infos'][2]
    (sweep,) = info['sweeps']
    assert sweep['data_path'] == lidar['scene-0001-0']['filename']
    moved = sweep['sensor2lidar_translation']
    assert np.hypot(*moved[:2]) == pytest.approx(np.linalg.norm(EGO_VELOCITY) * 1.0, abs=0.2)  # 1 s back
    assert moved[1] < 0  # where the car was is behind it
    assert '1 LiDAR sweeps between keyframes are not on disk' in capsys.readouterr().out

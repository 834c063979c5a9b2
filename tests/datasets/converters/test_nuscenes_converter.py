import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.geometry_utils import BoxVisibility

from projects.mmdet3d_plugin.datasets.converters.can_bus import CanBus
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


def edit(root: Path, table: str, change: Callable[[list[dict]], object]) -> None:
    path = root / f'v1.0-trainval/{table}.json'
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


BROKEN = {
    'nan size': ('sample_annotation', lambda r: r[3].update(size=[1, float('nan'), 1]), 'box 3 .* is not finite'),
    'no size': ('sample_annotation', lambda r: r[3].update(size=[1, 0, 1]), 'box 3 .* a size that no object has'),
    'huge size': ('sample_annotation', lambda r: r[3].update(size=[1, 900, 1]), 'a size that no object has'),
    'box turn': ('sample_annotation', lambda r: r[0].update(rotation=[0, 0, 0, 0]), 'no unit quaternion'),
    'camera turn': ('calibrated_sensor', lambda r: r[0].update(rotation=[0, 0, 0, 0]), 'calibrated_sensor.json: record CAM'),
    'nan pose': ('ego_pose', lambda r: r[0].update(translation=[0, float('nan'), 0]), 'ego_pose.json: record scene-0001-0'),
    'no focal': ('calibrated_sensor', lambda r: r[0]['camera_intrinsic'][0].__setitem__(0, 0), 'cam_intrinsic of CAM_FRONT'),
    'intrinsics': ('calibrated_sensor', lambda r: r[0].update(camera_intrinsic=[]), 'cam_intrinsic is missing'),
    'loop': ('sample', lambda r: r[1].update(next=r[0]['token']), 'leads back to scene-0001-0'),
    'order': ('sample', lambda r: r[1].update(timestamp=-5), 'timestamp -5 of sample scene-0001-1 is not after'),
    'twice': ('sample', lambda r: r.append(r[0]), 'holds the token scene-0001-0 more than once'),
    'field': ('sample', lambda r: r[0].pop('timestamp'), r"refer to a field 'timestamp' .*\(table sample\)"),
    'link': ('sample_data', lambda r: r[0].update(ego_pose_token='x'), r"record 'x' that is not there \(sample_data.json, record .*, ego_pose_token"),
    'two sizes': ('sample_annotation', lambda r: r[3].update(size=[1, 2]), r'sample_annotation.json, record .* has size \[1, 2\], which must be 3 num'),
    'text': ('sample_annotation', lambda r: r[3].update(num_lidar_pts='many'), "num_lidar_pts 'many', which must be a whole number"),
    'time': ('sample', lambda r: r[0].update(timestamp='noon'), "sample.json, record .* has timestamp 'noon'"),
    'huge number': ('ego_pose', lambda r: r[0].update(rotation=[10**400, 0, 0, 0]), 'ego_pose.json, record .* has rotation'),
    'pixels': ('sample_data', lambda r: [row.update(width=0) for row in r], 'width 0 of CAM_.* is no number of pixels'),
    'two names': ('scene', lambda r: r[1].update(name=r[0]['name']), 'scene.json holds the name scene-0001 more than once'),
    'other scene': ('sample', lambda r: r[0].update(scene_token='x'), 'sample scene-0001-0 belongs to the scene x, but'),
    'type': ('scene', lambda r: r.__setitem__(0, 7), 'scene.json is no list of records'),
    'far': ('sample_annotation', lambda r: [a.update(translation=[9e5, 0, 0]) for a in r], 'not in the same global frame'),
}  # fmt: skip


@pytest.mark.parametrize('kind', BROKEN)
def test_what_cannot_be_right_is_one_line_that_names_it(copy: Path, kind: str) -> None:
    table, change, words = BROKEN[kind]
    edit(copy, table, change)
    with pytest.raises(ValueError, match=words) as caught:
        create_nuscenes_infos(copy, 'v1.0-trainval', progress=False)
    assert '\n' not in str(caught.value)
    assert not list(copy.glob('*.pkl'))


def test_clouds_that_are_not_on_disk_are_a_notice(copy: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(copy / 'samples/LIDAR_TOP')
    create_nuscenes_infos(copy, 'v1.0-trainval', progress=False)
    assert 'notice: 12 of 12 LiDAR keyframes are not on disk' in capsys.readouterr().out
    assert len(load_infos(copy / TRAIN, 'v1.0')['infos']) == 8


def test_counts_are_printed(copy: Path, capsys: pytest.CaptureFixture) -> None:
    edit(copy, 'sample_annotation', lambda rows: [row.update(num_lidar_pts=0) for row in rows])
    create_nuscenes_infos(copy, 'v1.0-trainval', progress=False)
    out = capsys.readouterr().out
    assert '8 samples of 2 scenes, 6 cameras; boxes: car 16, ' in out
    assert 'of 64 boxes 64 have no LiDAR or radar point, 0 are beyond 51.2 m' in out
    assert 'set use_valid_flag=False' in out


def test_own_splits_are_read_where_the_devkit_reads_them_or_from_a_file(
    copy: Path, capsys: pytest.CaptureFixture
) -> None:
    edit(copy, 'scene', lambda rows: [row.update(name=f'mine-{i}') for i, row in enumerate(rows)])
    with pytest.raises(
        ValueError, match=r'no scene of .* \(first mine-0\) is in the official splits; .*--split FILE'
    ):
        create_nuscenes_infos(copy, 'v1.0-trainval', progress=False)
    own = copy / 'own.json'
    own.write_text(json.dumps(dict(train=['mine-0', 'mine-2'], val=['mine-1', 'mine-9'])))
    train, val = create_nuscenes_infos(copy, 'v1.0-trainval', progress=False, split_file=own)
    content = load_infos(val, 'v1.0')
    assert content['metadata']['scenes'] == ['mine-1', 'mine-9']
    assert [len(load_infos(path, 'v1.0')['infos']) for path in (train, val)] == [9, 3]
    (copy / 'v1.0-trainval').rename(copy / 'mine')
    with pytest.raises(ValueError, match="unknown nuScenes version 'mine'"):
        create_nuscenes_infos(copy, 'mine', progress=False)
    (copy / 'mine/splits.json').write_text(json.dumps(dict(night=['mine-1'])))
    (night,) = create_nuscenes_infos(copy, 'mine', progress=False)
    assert night.name == 'nuscenes_infos_temporal_night.pkl'
    own.write_text('{"../x": ["mine-0"]}')
    with pytest.raises(ValueError, match=r"own.json has the split '../x', which goes into the name"):
        create_nuscenes_infos(copy, 'mine', progress=False, split_file=own)
    own.write_text('{"train": "mine-0"}')
    with pytest.raises(ValueError, match=r'own.json must be JSON such as'):
        create_nuscenes_infos(copy, 'mine', progress=False, split_file=own)


def test_the_test_split_has_no_boxes(copy: Path, capsys: pytest.CaptureFixture) -> None:
    for table in ('sample_annotation', 'instance'):
        edit(copy, table, lambda rows: rows.clear())
    edit(copy, 'scene', lambda rows: [row.update(name=f'scene-{77 + i:04}') for i, row in enumerate(rows)])
    (copy / 'v1.0-trainval').rename(copy / 'v1.0-test')
    (path,) = create_nuscenes_infos(copy, 'v1.0-test', progress=False)
    infos = load_infos(path, 'v1.0')['infos']
    assert path.name == 'nuscenes_infos_temporal_test.pkl'
    assert len(infos) == 12
    assert 'gt_boxes' not in infos[0]
    assert 'no boxes: they serve to predict only' in capsys.readouterr().out


def test_motion_comes_from_the_message_before_or_after(tmp_path: Path) -> None:
    """As BEVFormer's converter has it: pose from the last before, motion from the first after or the very last."""
    still = dict(orientation=[1, 0, 0, 0], accel=[0, 0, 9], rotation_rate=[0] * 3)
    messages = [dict(still, utime=t, pos=[t, 0, 0], vel=[t, 0, 0]) for t in (10, 20, 30)]
    (tmp_path / 'scene-0001_pose.json').write_text(json.dumps(messages))
    for message, told in (('before', [10, 10, 20, 30]), ('after', [10, 20, 30, 30])):
        states = CanBus(tmp_path, message).states('scene-0001', [5, 15, 20, 99])
        assert states[:, 0].tolist() == [10, 10, 20, 30]
        assert states[:, 13].tolist() == told
    (tmp_path / 'scene-0001_pose.json').write_text('[{"utime": 1}]')
    with pytest.raises(ValueError, match=r'scene-0001_pose.json is damaged'):
        CanBus(tmp_path).states('scene-0001', [5])

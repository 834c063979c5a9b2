"""nuScenes tables -> temporal info files, through the devkit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion
from tqdm import tqdm

from projects.mmdet3d_plugin.common.geometry import transform_matrix, transform_points
from projects.mmdet3d_plugin.datasets.converters.can_bus import CanBus, states_from_poses
from projects.mmdet3d_plugin.datasets.info_files import CAMERAS, Info, info_file_name, save_infos

# version -> (part of the file name, official split) of each info file
SPLITS = {
    'v1.0-trainval': (('train', 'train'), ('val', 'val')),
    'v1.0-mini': (('train', 'mini_train'), ('val', 'mini_val')),
}
TABLES = (
    'category', 'attribute', 'visibility', 'instance', 'sensor', 'calibrated_sensor', 'ego_pose', 'log', 'scene',
    'sample', 'sample_data', 'sample_annotation', 'map',
)  # fmt: skip
Record = dict[str, Any]


def create_nuscenes_infos(
    root: Path,
    version: str,
    out_dir: Path | None = None,
    can_bus: Path | None = None,
    max_sweeps: int = 10,
    progress: bool = True,
) -> list[Path]:
    """Write the temporal info files of a folder in the layout of nuScenes.

    Args:
        root: folder with ``samples/``, ``maps/`` and the tables in ``version/``.
        version: ``'v1.0-trainval'`` or ``'v1.0-mini'``.
        out_dir: where the files go, default ``root``.
        can_bus: folder of the CAN bus expansion; without it ego poses stand in.
        max_sweeps: LiDAR sweeps before the keyframe to list.
        progress: draw a progress bar.

    Returns:
        The paths written, train before val. A split without scenes gives a file without infos, and a notice.
    """
    check_layout(root, version)
    bus = CanBus(can_bus) if can_bus is not None else None
    if bus is None:
        print('notice: no CAN bus given (--canbus), ego poses stand in for it')
    nusc = open_tables(root, version)
    converter = NuScenesConverter(nusc, bus, max_sweeps)
    # Everything is read before anything is written: damage in the last scene leaves no half of a dataset.
    contents = [(part, split, converter.split_infos(split, progress)) for part, split in SPLITS[version]]
    written = []
    for part, split, infos in contents:
        metadata = dict(version=version, split=split, box_convention='v1.0', can_bus=bus is not None)
        path = (out_dir or root) / info_file_name(part)
        save_infos(dict(metadata=metadata, infos=infos), path)
        written.append(path)
        print(
            f'{path}: {len(infos)} samples'
            if infos
            else f'notice: {path} is empty, no scene here is in {split}'
        )
    converter.report()
    return written


def check_layout(root: Path, version: str) -> None:
    """Raise one clear line when ``root`` is not a nuScenes folder of this version."""
    if version not in SPLITS:
        raise ValueError(f'unknown nuScenes version {version!r}; choose one of {", ".join(SPLITS)}')
    if not root.is_dir():
        raise FileNotFoundError(f'{root} does not exist; pass the folder that holds samples/ and {version}/')
    if not (root / version).is_dir():
        found = sorted(path.name for path in root.glob('v1.0-*') if path.is_dir())
        hint = (
            f'found {", ".join(found)}: pass --version {found[0]}' if found else 'it holds no v1.0-* folder'
        )
        raise FileNotFoundError(f'no tables of {version} in {root}; {hint}')
    for name in TABLES:
        path = root / version / f'{name}.json'
        if not path.is_file():
            raise FileNotFoundError(
                f'table {path} is missing; unpack the metadata archive of {version} again'
            )
    for record in _read_table(root / version / 'map.json'):
        if not (root / record['filename']).is_file():
            raise FileNotFoundError(
                f'map image {root / record["filename"]} is missing and the devkit insists on it; unpack the '
                'metadata archive (it brings maps/) again'
            )


def open_tables(root: Path, version: str) -> NuScenes:
    """The devkit's database, without its prints; a broken table is named."""
    try:
        return NuScenes(version=version, dataroot=str(root), verbose=False)
    except json.JSONDecodeError:
        for name in TABLES:
            _read_table(root / version / f'{name}.json')
        raise
    except KeyError as error:
        raise _dangling(root / version, error) from error


def _read_table(path: Path) -> list[Record]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f'table {path} is not valid JSON ({error}); unpack the metadata archive again'
        ) from error


def _dangling(folder: Path, error: KeyError) -> ValueError:
    return ValueError(
        f'the tables in {folder} refer to a record {error} that none of them holds; they are incomplete, unpack the '
        'metadata archive again'
    )


class NuScenesConverter:
    """Turns samples of an opened database into infos.

    Args:
        nusc: the devkit's database.
        can_bus: source of ego states, or None to derive them from poses.
        max_sweeps: LiDAR sweeps before the keyframe to list.
    """

    def __init__(self, nusc: NuScenes, can_bus: CanBus | None, max_sweeps: int) -> None:
        self.nusc = nusc
        self.can_bus = can_bus
        self.max_sweeps = max_sweeps
        self.root = Path(nusc.dataroot)
        self._missing_sweeps = 0
        self._scenes_without_can_bus: list[str] = []
        self._scenes_used: set[str] = set()

    def split_infos(self, split: str, progress: bool = True) -> list[Info]:
        """Infos of every sample of an official split, sorted by scene name, then time."""
        names = set(create_splits_scenes()[split])
        scenes = sorted((s for s in self.nusc.scene if s['name'] in names), key=lambda scene: scene['name'])
        self._scenes_used.update(scene['name'] for scene in scenes)
        total = sum(scene['nbr_samples'] for scene in scenes)
        infos: list[Info] = []
        with tqdm(total=total, desc=split, unit='sample', disable=not progress or not total) as bar:
            for scene in scenes:
                try:
                    infos.extend(self.scene_infos(scene))
                except KeyError as error:
                    raise _dangling(self.root / self.nusc.version, error) from error
                bar.update(scene['nbr_samples'])
        return infos

    def scene_infos(self, scene: Record) -> list[Info]:
        """Infos of one scene in order of time, with their ego states."""
        samples = list(self._follow('sample', scene['first_sample_token']))
        infos = [self.sample_info(scene, sample, i) for i, sample in enumerate(samples)]
        times = [info['timestamp'] for info in infos]
        states = self.can_bus.states(scene['name'], times) if self.can_bus else None
        if states is None:
            if self.can_bus:
                self._scenes_without_can_bus.append(scene['name'])
            rotations = [Quaternion(info['ego2global_rotation']) for info in infos]
            states = states_from_poses(
                times, np.array([i['ego2global_translation'] for i in infos]), rotations
            )
        for info, state in zip(infos, states, strict=True):
            info['can_bus'] = state
        return infos

    def sample_info(self, scene: Record, sample: Record, frame_idx: int) -> Info:
        """One info, all of it but ``can_bus``: poses, files, calibration and boxes."""
        lidar = self._keyframe(sample, 'LIDAR_TOP')
        calibration = self.nusc.get('calibrated_sensor', lidar['calibrated_sensor_token'])
        pose = self.nusc.get('ego_pose', lidar['ego_pose_token'])
        lidar2global = _matrix(pose) @ _matrix(calibration)
        return dict(
            token=sample['token'],
            prev=sample['prev'],
            next=sample['next'],
            scene_token=scene['token'],
            scene_name=scene['name'],
            frame_idx=frame_idx,
            timestamp=sample['timestamp'],
            lidar_path=lidar['filename'],
            sweeps=self._sweeps(lidar, lidar2global),
            cams={name: self._camera(sample, name, lidar2global) for name in CAMERAS},
            lidar2ego_translation=calibration['translation'],
            lidar2ego_rotation=calibration['rotation'],
            ego2global_translation=pose['translation'],
            ego2global_rotation=pose['rotation'],
            **self._annotations(sample, lidar2global),
        )

    def report(self) -> None:
        """Say once what was left out or replaced."""
        if self._scenes_without_can_bus:
            names = self._scenes_without_can_bus
            print(f'notice: {len(names)} scenes have no CAN bus file (first {names[0]}), ego poses stand in')
        if self._missing_sweeps:
            print(
                f'notice: {self._missing_sweeps} LiDAR sweeps between keyframes are not on disk and were left out'
            )
        unused = [scene['name'] for scene in self.nusc.scene if scene['name'] not in self._scenes_used]
        if unused:
            print(
                f'notice: {len(unused)} scenes (first {unused[0]}) are in no split of {self.nusc.version}, left out'
            )

    def _follow(self, table: str, token: str) -> Iterator[Record]:
        while token:
            record = self.nusc.get(table, token)
            yield record
            token = record['next']

    def _keyframe(self, sample: Record, channel: str) -> Record:
        """The sample_data record of a sensor at a keyframe, whose file exists."""
        if channel not in sample['data']:
            raise ValueError(
                f'sample {sample["token"]} has no {channel} in {self.nusc.version}/sample_data.json'
            )
        record = self.nusc.get('sample_data', sample['data'][channel])
        if not (self.root / record['filename']).is_file():
            kind = 'LiDAR' if channel == 'LIDAR_TOP' else 'image'
            raise FileNotFoundError(
                f'{kind} file {self.root / record["filename"]} is missing; unpack the keyframe archive that holds it '
                f'into {self.root}'
            )
        return record

    def _sensor2lidar(self, record: Record, lidar2global: np.ndarray) -> np.ndarray:
        """(4, 4), from a sensor at its own time to the LiDAR at the time of its keyframe."""
        calibration = self.nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
        pose = self.nusc.get('ego_pose', record['ego_pose_token'])
        return np.linalg.inv(lidar2global) @ _matrix(pose) @ _matrix(calibration)

    def _camera(self, sample: Record, name: str, lidar2global: np.ndarray) -> Record:
        record = self._keyframe(sample, name)
        calibration = self.nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
        transform = self._sensor2lidar(record, lidar2global)
        return dict(
            data_path=record['filename'],
            sensor2lidar_rotation=transform[:3, :3],
            sensor2lidar_translation=transform[:3, 3],
            cam_intrinsic=np.array(calibration['camera_intrinsic'], dtype=np.float64),
            timestamp=record['timestamp'],
            width=record['width'],
            height=record['height'],
        )

    def _sweeps(self, lidar: Record, lidar2global: np.ndarray) -> list[Record]:
        sweeps: list[Record] = []
        token = lidar['prev']
        while token and len(sweeps) < self.max_sweeps:
            record = self.nusc.get('sample_data', token)
            token = record['prev']
            if not (self.root / record['filename']).is_file():
                self._missing_sweeps += 1
                continue
            transform = self._sensor2lidar(record, lidar2global)
            sweeps.append(
                dict(
                    data_path=record['filename'],
                    sensor2lidar_rotation=transform[:3, :3],
                    sensor2lidar_translation=transform[:3, 3],
                    timestamp=record['timestamp'],
                )
            )
        return sweeps

    def _annotations(self, sample: Record, lidar2global: np.ndarray) -> Record:
        """Boxes of a keyframe in the LiDAR frame, convention v1.0, gravity centres."""
        records = [self.nusc.get('sample_annotation', token) for token in sample['anns']]
        to_lidar = np.linalg.inv(lidar2global)
        centers = np.array([r['translation'] for r in records], dtype=np.float64).reshape(-1, 3)
        wlh = np.array([r['size'] for r in records], dtype=np.float64).reshape(-1, 3)
        velocity = np.array([self.nusc.box_velocity(r['token']) for r in records]).reshape(-1, 3)
        velocity[:, 2] = 0.0
        heading = (
            _forward_axis(np.array([r['rotation'] for r in records], dtype=np.float64)) @ to_lidar[:3, :3].T
        )
        yaw = np.arctan2(heading[:, 1], heading[:, 0])
        centers = transform_points(centers, to_lidar)
        lidar_points = np.array([r['num_lidar_pts'] for r in records], dtype=np.int64)
        radar_points = np.array([r['num_radar_pts'] for r in records], dtype=np.int64)
        names = [category_to_detection_name(r['category_name']) or r['category_name'] for r in records]
        return dict(
            gt_boxes=np.column_stack([centers, wlh[:, [1, 0, 2]], yaw]),
            gt_velocity=(velocity @ to_lidar[:3, :3].T)[:, :2],
            gt_names=np.array(names, dtype=str),
            num_lidar_pts=lidar_points,
            num_radar_pts=radar_points,
            valid_flag=lidar_points + radar_points > 0,
        )


def _matrix(record: Record) -> np.ndarray:
    """(4, 4) transform of a calibrated_sensor or ego_pose record."""
    return transform_matrix(record['rotation'], record['translation'])


def _forward_axis(quaternions: np.ndarray) -> np.ndarray:
    """(n, 4) rotations wxyz -> (n, 3), where each turns the x axis."""
    w, x, y, z = quaternions.reshape(-1, 4).T
    return np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=1)

"""nuScenes tables -> temporal info files, through the devkit."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json
from projects.mmdet3d_plugin.common.geometry import transform_matrix, transform_points
from projects.mmdet3d_plugin.datasets.converters.can_bus import CanBus, states_from_poses
from projects.mmdet3d_plugin.datasets.converters.open_tables import UNFIT, open_tables, unfit
from projects.mmdet3d_plugin.datasets.info_checks import check_infos, is_unit
from projects.mmdet3d_plugin.datasets.info_files import Info, ordered_cameras, save_infos, temporal_info_file
from projects.mmdet3d_plugin.evaluation.nuscenes_tables import check_tables, read_table

# version -> (name in the info file's name, official split)
SPLITS = {
    'v1.0-trainval': (('train', 'train'), ('val', 'val')),
    'v1.0-mini': (('train', 'mini_train'), ('val', 'mini_val')),
    'v1.0-test': (('test', 'test'),),
}
USUAL_REACH = 51.2
"""Metres from the LiDAR to each side, in which the configs detect."""
_ABSURD_REACH = 500.0  # metres
Record = dict[str, Any]


def create_nuscenes_infos(
    root: Path,
    version: str,
    out_dir: Path | None = None,
    can_bus: Path | None = None,
    max_sweeps: int = 10,
    progress: bool = True,
    split_file: Path | None = None,
    cameras: Sequence[str] | None = None,
    can_bus_message: str = 'before',
) -> list[Path]:
    """Write the temporal info files of a folder in the layout of nuScenes.

    Args:
        root: folder with ``samples/``, ``maps/`` and the tables in ``version/``.
        version: ``'v1.0-trainval'``, ``'v1.0-mini'``, ``'v1.0-test'`` (no boxes), or one's own.
        out_dir: where the files go, default ``root``.
        can_bus: folder of the CAN bus expansion; without it ego poses stand in.
        max_sweeps: LiDAR sweeps before the keyframe to list.
        progress: draw a progress bar.
        split_file: JSON with the names of scenes by split, in place of the official splits; ``splits.json`` beside the
            tables, where the devkit looks for it, is taken without being named.
        cameras: channels to keep; by default every camera of the table of sensors.
        can_bus_message: which message tells acceleration, rates and velocity, see :class:`CanBus`.

    Returns:
        The paths written, in the order of the splits. A split without scenes gives a file without infos, and a notice.

    Raises:
        FileNotFoundError: a file is missing.
        UserError: the tables are damaged or hold what cannot be right, or no scene is in any split.
    """
    splits = read_splits(root, version, split_file)
    check_tables(root, version)
    bus = CanBus(can_bus, can_bus_message) if can_bus is not None else None
    if bus is None:
        print('notice: no CAN bus given (--canbus), ego poses stand in for it')
    nusc = open_tables(root, version)
    converter = NuScenesConverter(nusc, bus, max_sweeps, cameras)
    # Everything is read before anything is written: damage in the last scene leaves no half of a dataset.
    contents = [(*split, converter.split_infos(*split[1:], progress)) for split in splits]
    if not any(infos for *_, infos in contents):
        where = split_file or 'the official splits'
        raise UserError(
            f'no scene of {root / version} (first {nusc.scene[0]["name"] if nusc.scene else "none"}) is in {where}; say which '
            f'are with --split FILE, JSON such as {{"train": ["scene name", ...], "val": [...]}}'
        )
    written = []
    for part, split, scenes, infos in contents:
        path = (out_dir or root) / temporal_info_file(part)
        check_infos(infos, root / version)
        print_counts(path, split, infos)
        metadata = dict(version=version, split=split, box_convention='v1.0', can_bus=bus is not None)
        if split not in create_splits_scenes() or set(scenes) != set(create_splits_scenes()[split]):
            metadata['scenes'] = list(scenes)
        if can_bus_message != 'before':
            metadata['can_bus_message'] = can_bus_message
        save_infos(dict(metadata=metadata, infos=infos), path)
        written.append(path)
    converter.report()
    return written


def read_splits(root: Path, version: str, split_file: Path | None = None) -> list[tuple[str, str, list[str]]]:
    """Which scenes belong to which split.

    Args:
        root, version, split_file: as for :func:`create_nuscenes_infos`.

    Returns:
        (name in the info file's name, split, names of scenes) of each.

    Raises:
        UserError: nothing says it for this version, or the file is no JSON of lists of names.
    """
    official = [(part, split, create_splits_scenes()[split]) for part, split in SPLITS.get(version, ())]
    beside = root / version / 'splits.json'
    path = split_file or (beside if beside.is_file() else None)
    if path is None:
        if not official:
            raise UserError(
                f'unknown nuScenes version {version!r}; choose one of {", ".join(SPLITS)}, or say which scenes belong to '
                f'which split in {beside} or with --split FILE'
            )
        return official
    content = read_json(path, 'it must be JSON such as {"train": ["scene name", ...], "val": [...]}')
    good = isinstance(content, dict) and content and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in content.values()
    )  # fmt: skip
    if not good:
        raise UserError(f'{path} must be JSON such as {{"train": ["scene name", ...], "val": [...]}}')
    for split in content:
        if not re.fullmatch(r'[\w.-]+', split):
            raise UserError(
                f'{path} has the split {split!r}, which goes into the name of its info file: use letters, digits and "_"'
            )
    own = [(split, split, names) for split, names in content.items()]
    if split_file is None:
        scenes = {record.get('name') for record in read_table(root / version / 'scene.json')}
        own = [split for split in official if split[0] not in content and scenes & set(split[2])] + own
    for i, (_, first, names) in enumerate(own):
        for _, second, others in own[i + 1 :]:
            if both := set(names) & set(others):
                print(
                    f'notice: {len(both)} scenes (first {min(both)}) are in the splits {first} and {second}'
                )
    return own


def print_counts(path: Path, split: str, infos: Sequence[Info]) -> None:
    """Say what an info file holds, and what of it looks wrong.

    Raises:
        UserError: its boxes are nowhere near the car, or no camera sees any.
    """
    if not infos:
        print(f'notice: {path} is empty, no scene here is in {split}')
        return
    scenes = len({info['scene_token'] for info in infos})
    head = f'{path}: {len(infos)} samples of {scenes} scenes, {len(infos[0]["cams"])} cameras'
    if 'gt_boxes' not in infos[0]:
        print(f'{head}, no boxes: they serve to predict only')
        return
    names = Counter(str(name) for info in infos for name in info['gt_names'])
    print(f'{head}; boxes: {", ".join(f"{name} {count}" for name, count in names.most_common()) or "none"}')
    if not names:
        print(f'notice: no sample of {split} has a box; nothing can be learned from it or evaluated on it')
        return
    boxes = np.concatenate([info['gt_boxes'] for info in infos])
    without = sum(int((~info['valid_flag']).sum()) for info in infos)
    far = int((np.abs(boxes[:, :2]) > USUAL_REACH).any(1).sum())
    unseen = sum(int((~_seen(info)).sum()) for info in infos)
    print(
        f'  of {len(boxes)} boxes {without} have no LiDAR or radar point, {far} are beyond {USUAL_REACH} m, '
        f'{unseen} have their centre in no image'
    )
    if (np.abs(boxes[:, :2]) > _ABSURD_REACH).any(1).all():
        raise UserError(
            f'all {len(boxes)} boxes of {split} are more than {_ABSURD_REACH:g} m from the car: ego_pose and '
            'sample_annotation are not in the same global frame'
        )
    if not infos[0]['cams']:
        print(f'notice: there are no cameras in {split}: it serves detectors for point clouds only')
    elif unseen == len(boxes):
        print(
            f'notice: no camera sees the centre of any box of {split}: look at rotation, translation and camera_intrinsic in '
            'calibrated_sensor.json'
        )
    if without == len(boxes):
        print(
            f'notice: no box of {split} has a LiDAR or radar point: to train on it set use_valid_flag=False, and the devkit '
            'evaluates no such box'
        )


def _seen(info: Info) -> np.ndarray:
    """(n,) bool, boxes whose centre lies in some image."""
    centres = info['gt_boxes'][:, :3]
    seen = np.zeros(len(centres), dtype=bool)
    for cam in info['cams'].values():
        local = (
            (centres - cam['sensor2lidar_translation'])
            @ cam['sensor2lidar_rotation']
            @ cam['cam_intrinsic'].T
        )
        depth = local[:, 2]
        pixel = local[:, :2] / np.where(depth > 0, depth, np.inf)[:, None]
        seen |= (depth > 0) & ((pixel >= 0) & (pixel < (cam['width'], cam['height']))).all(1)
    return seen


class NuScenesConverter:
    """Turns samples of an opened database into infos.

    Args:
        nusc: the devkit's database.
        can_bus: source of ego states, or None to derive them from poses.
        max_sweeps: LiDAR sweeps before the keyframe to list.
        cameras: channels to keep; every camera of the table of sensors by default.
    """

    def __init__(
        self, nusc: NuScenes, can_bus: CanBus | None, max_sweeps: int, cameras: Sequence[str] | None = None
    ) -> None:
        self.nusc = nusc
        self.can_bus = can_bus
        self.max_sweeps = max_sweeps
        self.root = Path(nusc.dataroot)
        self.folder = self.root / nusc.version
        self.cameras = self._choose_cameras(cameras)
        # An official test split has the table without records.
        self.labelled = bool(nusc.sample_annotation)
        self._missing_sweeps = 0
        self._missing_clouds: list[str] = []
        self._keyframes = 0
        self._scenes_without_can_bus: list[str] = []
        self._scenes_used: set[str] = set()

    def split_infos(self, split: str, names: Sequence[str], progress: bool = True) -> list[Info]:
        """Infos of every sample of some scenes, sorted by scene name, then time.

        Args:
            split: its name, for messages.
            names: of scenes; those that are not here are left out, with a notice where some are.
            progress: draw a progress bar.
        """
        scenes = sorted((s for s in self.nusc.scene if s['name'] in set(names)), key=lambda s: s['name'])
        self._scenes_used.update(scene['name'] for scene in scenes)
        absent = sorted(set(names) - {scene['name'] for scene in scenes})
        if scenes and absent and split not in create_splits_scenes():
            print(f'notice: {len(absent)} scenes of {split} (first {absent[0]}) are not in {self.folder}')
        total = sum(scene['nbr_samples'] for scene in scenes)
        infos: list[Info] = []
        with tqdm(total=total, desc=split, unit='sample', disable=not progress or not total) as bar:
            for scene in scenes:
                try:
                    infos.extend(self.scene_infos(scene))
                except UserError:
                    raise
                except UNFIT as error:
                    raise unfit(self.folder, error) from error
                bar.update(scene['nbr_samples'])
        return infos

    def scene_infos(self, scene: Record) -> list[Info]:
        """Infos of one scene in order of time, with their ego states."""
        samples = list(self._follow('sample', scene['first_sample_token']))
        for sample in samples:
            if sample['scene_token'] != scene['token']:
                raise UserError(
                    f'{self.folder}/sample.json: sample {sample["token"]} belongs to the scene {sample["scene_token"]}, but '
                    f'"next" leads to it from {scene["name"]}; unpack the metadata archive again'
                )
        infos = [self.sample_info(scene, sample, i) for i, sample in enumerate(samples)]
        times = [info['timestamp'] for info in infos]
        for info, before, after in zip(infos[1:], times, times[1:], strict=False):
            if not before < after:
                raise UserError(
                    f'{self.folder}/sample.json: timestamp {after} of sample {info["token"]} is not after that of the sample '
                    'before it; mend the table, or leave the scene out'
                )
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
        lidar2global = self._sensor2global(lidar)
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
            cams={name: self._camera(sample, name, lidar2global) for name in self.cameras},
            lidar2ego_translation=calibration['translation'],
            lidar2ego_rotation=calibration['rotation'],
            ego2global_translation=pose['translation'],
            ego2global_rotation=pose['rotation'],
            **(self._annotations(sample, lidar2global) if self.labelled else {}),
        )

    def report(self) -> None:
        """Say once what was left out or replaced."""
        if self._scenes_without_can_bus:
            names = self._scenes_without_can_bus
            print(f'notice: {len(names)} scenes have no CAN bus file (first {names[0]}), ego poses stand in')
        if self._missing_clouds:
            print(
                f'notice: {len(self._missing_clouds)} of {self._keyframes} LiDAR keyframes are not on disk (first '
                f'{self._missing_clouds[0]}); camera detectors do not read them, LiDAR detectors need them: unpack the '
                f'keyframe archive that holds them into {self.root}'
            )
        if self._missing_sweeps:
            print(
                f'notice: {self._missing_sweeps} LiDAR sweeps between keyframes are not on disk and were left out'
            )
        unused = [scene['name'] for scene in self.nusc.scene if scene['name'] not in self._scenes_used]
        if unused:
            print(
                f'notice: {len(unused)} scenes (first {unused[0]}) are in no split of {self.nusc.version}, left out'
            )

    def _choose_cameras(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Channels in the order of the network."""
        known = {sensor['channel'] for sensor in self.nusc.sensor if sensor.get('modality') == 'camera'}
        unknown = [name for name in wanted or () if name not in known]
        if unknown:
            raise UserError(
                f'there is no camera {unknown[0]} in {self.folder}/sensor.json; it has {", ".join(sorted(known))}'
            )
        return ordered_cameras(wanted or known)

    def _follow(self, table: str, token: str) -> Iterator[Record]:
        """Records from one to the ``next``, to the end."""
        seen: set[str] = set()
        while token:
            if token in seen:
                raise UserError(
                    f'{self.folder}/{table}.json: following "next" from record to record leads back to {token}; unpack the '
                    'metadata archive again'
                )
            seen.add(token)
            record = self.nusc.get(table, token)
            yield record
            token = record['next']

    def _keyframe(self, sample: Record, channel: str) -> Record:
        """The sample_data record of a sensor at a keyframe; images must be on disk, clouds need not."""
        if channel not in sample['data']:
            mend = (
                ''
                if channel == 'LIDAR_TOP'
                else '; say which cameras all samples have with --cameras NAME ...'
            )
            raise UserError(
                f'sample {sample["token"]} has no {channel} in {self.nusc.version}/sample_data.json{mend}'
            )
        record = self.nusc.get('sample_data', sample['data'][channel])
        lidar = channel == 'LIDAR_TOP'
        self._keyframes += lidar
        if not (self.root / record['filename']).is_file():
            if not lidar:
                raise FileNotFoundError(
                    f'image file {self.root / record["filename"]} is missing; unpack the keyframe archive that holds it '
                    f'into {self.root}'
                )
            self._missing_clouds.append(record['filename'])
        return record

    def _sensor2global(self, record: Record) -> np.ndarray:
        """(4, 4), from a sensor to the global frame at its own time."""
        matrix = np.eye(4)
        for table in ('ego_pose', 'calibrated_sensor'):
            owner = self.nusc.get(table, record[f'{table}_token'])
            turn, move = (np.asarray(owner[key], dtype=np.float64) for key in ('rotation', 'translation'))
            if turn.shape != (4,) or move.shape != (3,) or not (is_unit(turn) and np.isfinite(move).all()):
                raise UserError(
                    f'{self.folder}/{table}.json: record {owner["token"]} has rotation {owner["rotation"]} and translation '
                    f'{owner["translation"]}: they must be a unit quaternion and three finite numbers; mend the table'
                )
            matrix = matrix @ transform_matrix(turn, move)
        return matrix

    def _camera(self, sample: Record, name: str, lidar2global: np.ndarray) -> Record:
        record = self._keyframe(sample, name)
        calibration = self.nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
        transform = np.linalg.inv(lidar2global) @ self._sensor2global(record)
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
        """Up to ``max_sweeps`` sweeps before a keyframe, the latest first, each with its (4, 4) pose in two parts."""
        sweeps: list[Record] = []
        token, seen = lidar['prev'], {lidar['token']}
        while token and token not in seen and len(sweeps) < self.max_sweeps:
            seen.add(token)
            record = self.nusc.get('sample_data', token)
            token = record['prev']
            if not (self.root / record['filename']).is_file():
                self._missing_sweeps += 1
                continue
            transform = np.linalg.inv(lidar2global) @ self._sensor2global(record)
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
        for record in records:
            if not is_unit(np.asarray(record['rotation'], dtype=np.float64)):
                raise UserError(
                    f'{self.folder}/sample_annotation.json: record {record["token"]} has rotation {record["rotation"]}, which '
                    'is no unit quaternion; mend the table'
                )
        centers = np.array([r['translation'] for r in records], dtype=np.float64).reshape(-1, 3)
        wlh = np.array([r['size'] for r in records], dtype=np.float64).reshape(-1, 3)
        velocity = np.array([self.nusc.box_velocity(r['token']) for r in records]).reshape(-1, 3)
        velocity[:, 2] = 0.0
        turns = [np.roll(r['rotation'], -1) for r in records]  # scipy has w last
        heading = Rotation.from_quat(turns).apply((1, 0, 0)) if records else np.zeros((0, 3))
        heading = heading @ to_lidar[:3, :3].T
        lidar_points, radar_points = (
            np.array([r[f'num_{sensor}_pts'] for r in records], dtype=np.int64)
            for sensor in ('lidar', 'radar')
        )
        names = [category_to_detection_name(r['category_name']) or r['category_name'] for r in records]
        return dict(
            gt_boxes=np.column_stack(
                [
                    transform_points(centers, to_lidar),
                    wlh[:, [1, 0, 2]],
                    np.arctan2(heading[:, 1], heading[:, 0]),
                ]
            ),
            gt_velocity=(velocity @ to_lidar[:3, :3].T)[:, :2],
            gt_names=np.array(names, dtype=str),
            num_lidar_pts=lidar_points,
            num_radar_pts=radar_points,
            valid_flag=lidar_points + radar_points > 0,
        )

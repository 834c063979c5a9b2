"""Write what the sensors of a scene saw as nuScenes tables and files."""

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.common.geometry import planar_pose
from projects.mmdet3d_plugin.worlds.catalog import OBJECT_CLASSES
from projects.mmdet3d_plugin.worlds.lidar import Sweep
from projects.mmdet3d_plugin.worlds.renderer import Picture
from projects.mmdet3d_plugin.worlds.rig import CAMERA_CHANNELS, LIDAR_CHANNEL, Camera
from projects.mmdet3d_plugin.worlds.scene import Scene, Thing
from projects.mmdet3d_plugin.worlds.worlds import check_written

TABLES = (
    'attribute',
    'calibrated_sensor',
    'category',
    'ego_pose',
    'instance',
    'log',
    'map',
    'sample',
    'sample_annotation',
    'sample_data',
    'scene',
    'sensor',
    'visibility',
)
JPEG_QUALITY = 92
ANNOTATED_REACH = 60.0  # metres from the ego vehicle
_EPOCH_US = 1_530_000_000_000_000
_ATTRIBUTES = (
    'vehicle.moving',
    'vehicle.stopped',
    'vehicle.parked',
    'cycle.with_rider',
    'cycle.without_rider',
    'pedestrian.sitting_lying_down',
    'pedestrian.standing',
    'pedestrian.moving',
)
_VISIBILITY = (('1', 'v0-40', 0.0), ('2', 'v40-60', 0.4), ('3', 'v60-80', 0.6), ('4', 'v80-100', 0.8))
Rows = dict[str, list[dict]]


def token(*names: object) -> str:
    """Token of something, from the names that tell it apart: the same every time.

    Example:
        >>> token('scene-0001', 3) == token('scene-0001', 3), len(token('anything'))
        (True, 32)
    """
    return hashlib.md5('/'.join(map(str, names)).encode()).hexdigest()


def common_rows() -> Rows:
    """Rows of the tables that do not depend on any scene."""
    sensors = [(name, 'camera') for name in CAMERA_CHANNELS] + [(LIDAR_CHANNEL, 'lidar')]
    categories = [spec.category for spec in OBJECT_CLASSES.values()]
    return {
        'attribute': [
            {'token': token('attribute', name), 'name': name, 'description': ''} for name in _ATTRIBUTES
        ],
        'category': [
            {'token': token('category', name), 'name': name, 'description': ''} for name in categories
        ],
        'sensor': [
            {'token': token('sensor', name), 'channel': name, 'modality': kind} for name, kind in sensors
        ],
        'visibility': [{'token': key, 'level': level, 'description': ''} for key, level, _ in _VISIBILITY],
    }


def write_tables(folder: Path, parts: list[Rows]) -> None:
    """Write all tables, each file complete or not at all.

    Args:
        folder: such as OUT/v1.0-trainval.
        parts: rows by table, joined in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        write_json(folder / f'{table}.json', [row for part in parts for row in part.get(table, [])])


@dataclass(frozen=True)
class Observation:
    """What was seen of the things of a scene at one keyframe.

    Attributes:
        share: (n,) share of each thing's pixels that show, over all cameras; 0 when in no picture.
        pixels: (n,) pixels that show.
        hits: (n,) LiDAR points.
    """

    share: np.ndarray
    pixels: np.ndarray
    hits: np.ndarray


class SceneWriter:
    """Writes the files of one scene and gathers its rows.

    Args:
        root: folder of the dataset.
        scene: the scene.
        seed: of the world; part of every token.
    """

    def __init__(self, root: Path, scene: Scene, seed: int) -> None:
        self.root, self.scene, self.seed = root, scene, seed
        self.rows: Rows = {table: [] for table in TABLES}
        self._start_us = _EPOCH_US + int(scene.name.split('-')[1]) * 1_000_000_000
        self._last: dict[str, dict] = {}
        self._observations: list[Observation] = []
        self._write_log()
        self._write_calibration()

    def add_frame(self, frame: int, pictures: dict[str, Picture], sweep: Sweep) -> None:
        """Write one keyframe: six images and a LiDAR sweep.

        Args:
            frame: its number.
            pictures: by channel.
            sweep: the LiDAR's.
        """
        time_us = self.frame_time_us(frame)
        self.rows['sample'].append(self._sample(frame, time_us))
        for camera in self.scene.rig.cameras:
            row = self._sample_data(camera.channel, frame, time_us + camera.delay_us, camera)
            path, quality = self.root / row['filename'], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            check_written(cv2.imwrite(str(path), pictures[camera.channel].image, quality), path)
        row = self._sample_data(LIDAR_CHANNEL, frame, time_us)
        sweep.points.tofile(self.root / row['filename'])
        seen = sum(picture.seen for picture in pictures.values())
        whole = sum(picture.whole for picture in pictures.values())
        share = np.where(whole > 0, seen / np.maximum(whole, 1e-9), 0)
        self._observations.append(Observation(share, seen, sweep.hits))

    def add_sweep(self, frame: int, time: float, sweep: Sweep) -> None:
        """Write a LiDAR sweep that lies between two keyframes.

        Args:
            frame: the keyframe after it.
            time: seconds since the start of the scene.
            sweep: the LiDAR's.
        """
        row = self._sample_data(LIDAR_CHANNEL, frame, self._start_us + round(time * 1e6), is_key_frame=False)
        (self.root / row['filename']).parent.mkdir(parents=True, exist_ok=True)
        sweep.points.tofile(self.root / row['filename'])

    def finish(self) -> Rows:
        """Annotate what was seen; returns the rows of the scene by table."""
        for index, thing in enumerate(self.scene.things):
            if thing.labelled:
                self._annotate(index, thing)
        samples = self.rows['sample']
        self.rows['scene'] = [
            {
                'token': self._token('scene'),
                'log_token': self._token('log'),
                'nbr_samples': len(samples),
                'first_sample_token': samples[0]['token'],
                'last_sample_token': samples[-1]['token'],
                'name': self.scene.name,
                'description': 'synthetic',
            }
        ]
        return self.rows

    def frame_time_us(self, frame: int) -> int:
        """Timestamp of a keyframe, microseconds."""
        return self._start_us + round(self.scene.times[frame] * 1e6)

    def _token(self, *names: object) -> str:
        return token(self.seed, self.scene.name, *names)

    def _write_log(self) -> None:
        filename = f'maps/{self._token("map")}.png'
        path = self.root / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        check_written(cv2.imwrite(str(path), self.scene.ground.road), path)
        log = {'token': self._token('log'), 'logfile': self._logfile(), 'vehicle': 'synthetic'}
        self.rows['log'].append({**log, 'date_captured': '2018-06-26', 'location': 'synthetic'})
        self.rows['map'].append(
            {
                'token': self._token('map'),
                'category': 'semantic_prior',
                'filename': filename,
                'log_tokens': [self._token('log')],
            }
        )

    def _logfile(self) -> str:
        return f'synthetic-{self.seed}-{self.scene.name}'

    def _write_calibration(self) -> None:
        rig = self.scene.rig
        sensors = [(camera.channel, camera.cam2ego, camera.intrinsic.tolist()) for camera in rig.cameras]
        for channel, pose, intrinsic in [*sensors, (LIDAR_CHANNEL, rig.lidar2ego, [])]:
            (self.root / 'samples' / channel).mkdir(parents=True, exist_ok=True)
            self.rows['calibrated_sensor'].append(
                {
                    'token': self._token('calibrated_sensor', channel),
                    'sensor_token': token('sensor', channel),
                    **_pose_row(pose),
                    'camera_intrinsic': intrinsic,
                }
            )

    def _sample(self, frame: int, time_us: int) -> dict:
        return {
            'token': self._token('sample', frame),
            'timestamp': time_us,
            'prev': self._token('sample', frame - 1) if frame > 0 else '',
            'next': self._token('sample', frame + 1) if frame + 1 < len(self.scene.times) else '',
            'scene_token': self._token('scene'),
        }

    def _sample_data(
        self, channel: str, frame: int, time_us: int, camera: Camera | None = None, is_key_frame: bool = True
    ) -> dict:
        """Add the row of a file, linked to the channel's previous one, and the ego pose at its time."""
        key = self._token('sample_data', channel, time_us)
        folder = 'samples' if is_key_frame else 'sweeps'
        row = {
            'token': key,
            'sample_token': self._token('sample', frame),
            'ego_pose_token': key,
            'calibrated_sensor_token': self._token('calibrated_sensor', channel),
            'timestamp': time_us,
            'fileformat': 'jpg' if camera else 'pcd',
            'is_key_frame': is_key_frame,
            'height': camera.height if camera else 0,
            'width': camera.width if camera else 0,
            'filename': f'{folder}/{channel}/{self._logfile()}__{channel}__{time_us}{".jpg" if camera else ".pcd.bin"}',
            'prev': self._last[channel]['token'] if channel in self._last else '',
            'next': '',
        }
        if channel in self._last:
            self._last[channel]['next'] = key
        self._last[channel] = row
        self.rows['sample_data'].append(row)
        pose = planar_pose(*self.scene.ego.at((time_us - self._start_us) * 1e-6))
        self.rows['ego_pose'].append({'token': key, 'timestamp': time_us, **_pose_row(pose)})
        return row

    def _annotate(self, index: int, thing: Thing) -> None:
        """Annotate a thing from the first to the last keyframe in which a sensor caught it nearby."""
        poses = thing.motion.at(self.scene.times)
        distance = np.linalg.norm(poses[:, :2] - self.scene.ego.at(self.scene.times)[:, :2], axis=-1)
        caught = [view.hits[index] > 0 or view.pixels[index] > 0 for view in self._observations]
        frames = np.flatnonzero(np.array(caught) & (distance <= ANNOTATED_REACH))
        if not len(frames):
            return
        rows = [
            self._annotation(index, thing, frame, poses[frame]) for frame in range(frames[0], frames[-1] + 1)
        ]
        for before, after in itertools.pairwise(rows):
            before['next'], after['prev'] = after['token'], before['token']
        self.rows['sample_annotation'] += rows
        self.rows['instance'].append(
            {
                'token': self._token('instance', index),
                'category_token': token('category', OBJECT_CLASSES[thing.kind].category),
                'nbr_annotations': len(rows),
                'first_annotation_token': rows[0]['token'],
                'last_annotation_token': rows[-1]['token'],
            }
        )

    def _annotation(self, index: int, thing: Thing, frame: int, pose: np.ndarray) -> dict:
        length, width, height = thing.size
        attribute = OBJECT_CLASSES[thing.kind].attributes[0 if thing.moving else 1]
        view = self._observations[frame]
        return {
            'token': self._token('sample_annotation', index, frame),
            'sample_token': self._token('sample', frame),
            'instance_token': self._token('instance', index),
            'visibility_token': [key for key, _, least in _VISIBILITY if view.share[index] >= least][-1],
            'attribute_tokens': [token('attribute', attribute)] if attribute else [],
            'translation': [float(pose[0]), float(pose[1]), height / 2],
            'size': [width, length, height],
            'rotation': Quaternion(axis=[0, 0, 1], radians=float(pose[2])).elements.tolist(),
            'prev': '',
            'next': '',
            'num_lidar_pts': int(view.hits[index]),
            'num_radar_pts': 0,
        }


def _pose_row(pose: np.ndarray) -> dict:
    """Translation and rotation (w, x, y, z) of a transform (4, 4)."""
    rotation = Quaternion(matrix=pose[:3, :3], rtol=1e-4, atol=1e-6).elements
    return {'translation': pose[:3, 3].tolist(), 'rotation': rotation.tolist()}

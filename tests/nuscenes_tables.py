"""A nuScenes of a few tiny frames, all 13 tables of it, for tests that need scenes with a past."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.datasets.info_files import CAMERAS

IMAGE_SIZE = (64, 36)
SIX = dict.fromkeys(CAMERAS, IMAGE_SIZE)
STEP_US = 500_000
EGO_VELOCITY = np.array([6.0, 2.0, 0.0])
EGO_YAWS = np.radians([-6.0, -2.0, 3.0, 9.0, 14.0])  # passes zero, where degrees jump from 360 to 0
# name, attribute, start (global, metres), velocity (m/s), (w, l, h), points
OBJECTS = (
    ('vehicle.car', 'vehicle.moving', (20.0, 6.0, 1.0), (8.0, 1.0), (1.9, 4.6, 1.6), 9),
    ('vehicle.truck', 'vehicle.moving', (-18.0, -9.0, 1.5), (-5.0, 3.0), (2.5, 7.0, 3.0), 7),
    ('vehicle.bus.rigid', 'vehicle.moving', (4.0, 24.0, 1.7), (2.0, -7.0), (2.9, 11.0, 3.4), 5),
    ('human.pedestrian.adult', 'pedestrian.moving', (9.0, -7.0, 0.9), (-1.0, 1.2), (0.7, 0.8, 1.7), 3),
    ('vehicle.bicycle', 'cycle.with_rider', (11.0, 2.0, 0.8), (4.0, 0.0), (0.6, 1.7, 1.3), 4),
    ('movable_object.barrier', '', (7.0, 9.0, 0.5), (0.0, 0.0), (2.5, 0.5, 1.0), 2),
    ('vehicle.car', 'vehicle.parked', (15.0, -12.0, 1.0), (0.0, 0.0), (1.8, 4.2, 1.5), 0),
    ('animal', '', (12.0, 12.0, 0.5), (0.0, 0.0), (0.5, 0.9, 0.6), 2),
)


def write_nuscenes(
    root: Path, version: str, scenes: dict[str, int], cameras: dict[str, tuple[int, int]] = SIX
) -> None:
    """Write tables, images, sweeps and a map.

    Args:
        root: made when it is not there.
        version: name of the folder of the tables.
        scenes: number of keyframes of each scene.
        cameras: (width, height) of the images of each, by channel.
    """
    tables: dict[str, list[dict[str, Any]]] = _fixed_tables(cameras)
    for name, length in scenes.items():
        _add_scene(tables, root, name, length, cameras)
    _write_file(root / 'maps/map.png', cv2.imencode('.png', np.zeros((4, 4), np.uint8))[1].tobytes())
    for name, rows in tables.items():
        _write_file(root / version / f'{name}.json', json.dumps(rows).encode())


def _fixed_tables(cameras: dict[str, tuple[int, int]]) -> dict[str, list[dict[str, Any]]]:
    categories = sorted({o[0] for o in OBJECTS})
    attributes = sorted({o[1] for o in OBJECTS if o[1]})
    rig = [
        _calibration(name, i, size)
        for i, (name, size) in enumerate([*cameras.items(), ('LIDAR_TOP', (0, 0))])
    ]
    return dict(
        category=[dict(token=c, name=c, description='', index=i) for i, c in enumerate(categories)],
        attribute=[dict(token=a, name=a, description='') for a in attributes],
        visibility=[dict(token='4', level='v80-100', description='')],
        sensor=[
            dict(
                token=f's-{c["token"]}',
                channel=c['token'],
                modality='camera' if c['token'] in cameras else 'lidar',
            )
            for c in rig
        ],
        calibrated_sensor=rig,
        log=[dict(token='log', logfile='log', vehicle='v', date_captured='2026-11-20', location='x')],
        map=[dict(token='map', category='semantic_prior', filename='maps/map.png', log_tokens=['log'])],
        **{
            name: []
            for name in ('instance', 'ego_pose', 'scene', 'sample', 'sample_data', 'sample_annotation')
        },
    )


def _calibration(name: str, place: int, size: tuple[int, int]) -> dict[str, Any]:
    """Cameras look outwards every 60 degrees; the LiDAR has x right and y forward, as in nuScenes."""
    if name == 'LIDAR_TOP':
        rotation, intrinsic, position = Quaternion(axis=(0, 0, 1), degrees=-90), [], [0.9, 0.0, 1.8]
    else:
        forward = Quaternion(matrix=np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
        rotation = Quaternion(axis=(0, 0, 1), degrees=(0, -60, 60, 180, 120, -120, 90, -90)[place]) * forward
        intrinsic, position = (
            [[50.0, 0, size[0] / 2 - 1], [0, 50.0, size[1] / 2 - 1], [0, 0, 1]],
            [1.5, 0.1 * place, 1.5],
        )
    return dict(
        token=name,
        sensor_token=f's-{name}',
        translation=position,
        rotation=rotation.elements.tolist(),
        camera_intrinsic=intrinsic,
    )


def _add_scene(
    tables: dict[str, list[dict[str, Any]]],
    root: Path,
    name: str,
    length: int,
    cameras: dict[str, tuple[int, int]],
) -> None:
    tokens = [f'{name}-{i}' for i in range(length)]
    tables['scene'].append(
        dict(
            token=name,
            name=name,
            log_token='log',
            nbr_samples=length,
            first_sample_token=tokens[0],
            last_sample_token=tokens[-1],
            description='',
        )
    )
    for i, token in enumerate(tokens):
        links = dict(prev=tokens[i - 1] if i else '', next=tokens[i + 1] if i + 1 < length else '')
        tables['sample'].append(dict(token=token, timestamp=i * STEP_US, scene_token=name, **links))
        tables['ego_pose'].append(
            dict(
                token=token,
                timestamp=i * STEP_US,
                translation=(EGO_VELOCITY * i * STEP_US * 1e-6).tolist(),
                rotation=Quaternion(axis=(0, 0, 1), radians=EGO_YAWS[i]).elements.tolist(),
            )
        )
        for place, channel in enumerate((*cameras, 'LIDAR_TOP')):
            tables['sample_data'].append(_sample_data(root, token, channel, i, place, cameras.get(channel)))
        _add_annotations(tables, name, tokens, i)


def _sample_data(
    root: Path, token: str, channel: str, i: int, place: int, size: tuple[int, int] | None
) -> dict[str, Any]:
    lidar = size is None
    filename = f'samples/{channel}/{token}.{"pcd.bin" if lidar else "png"}'
    if lidar:
        _write_file(root / filename, np.ones((3, 5), np.float32).tobytes())
    else:
        rng = np.random.default_rng((place, i))
        image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        _write_file(root / filename, cv2.imencode('.png', image)[1].tobytes())
    return dict(
        token=f'{token}-{channel}',
        sample_token=token,
        ego_pose_token=token,
        calibrated_sensor_token=channel,
        timestamp=i * STEP_US,
        fileformat='pcd' if lidar else 'png',
        is_key_frame=True,
        width=0 if lidar else size[0],
        height=0 if lidar else size[1],
        filename=filename,
        prev='',
        next='',
    )


def _add_annotations(tables: dict[str, list[dict[str, Any]]], scene: str, tokens: list[str], i: int) -> None:
    for k, (category, attribute, start, velocity, size, points) in enumerate(OBJECTS):
        annotations = [f'{token}-{k}' for token in tokens]
        if i == 0:
            tables['instance'].append(
                dict(
                    token=f'{scene}-{k}',
                    category_token=category,
                    nbr_annotations=len(tokens),
                    first_annotation_token=annotations[0],
                    last_annotation_token=annotations[-1],
                )
            )
        yaw = np.arctan2(velocity[1], velocity[0]) if any(velocity) else 0.3 * k
        tables['sample_annotation'].append(
            dict(
                token=annotations[i],
                sample_token=tokens[i],
                instance_token=f'{scene}-{k}',
                visibility_token='4',
                attribute_tokens=[attribute] if attribute else [],
                translation=(np.array(start) + np.array([*velocity, 0.0]) * i * STEP_US * 1e-6).tolist(),
                size=list(size),
                rotation=Quaternion(axis=(0, 0, 1), radians=yaw).elements.tolist(),
                prev=annotations[i - 1] if i else '',
                next=annotations[i + 1] if i + 1 < len(tokens) else '',
                num_lidar_pts=points,
                num_radar_pts=0,
            )
        )


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

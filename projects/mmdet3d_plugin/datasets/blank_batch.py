"""A batch of one frame without any data: for what depends on sizes and geometry alone, such as cost and speed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmcv.utils import build_from_cfg
from mmdet.datasets.builder import PIPELINES
from mmdet.datasets.pipelines import Compose
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.core.points import LiDARPoints
from mmdet3d.datasets.pipelines import Compose as Compose3D
from torch import Tensor

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.config_checks.check import transforms_of
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.nuscenes_rig import IMAGE_SIZE, LIDAR_TO_EGO, nuscenes_rig
from projects.mmdet3d_plugin.datasets.point_files import finite_rows, read_points

_BEAMS, _COLUMNS = 64, 2083
_ELEVATION = (-24.8, 2.0)  # degrees, lowest and highest beam
_HEIGHT = 1.73  # of the sensor above the ground, metres
_WALLS = (15.0, 6.0)  # distance from the car and height above the ground of the houses on both sides, metres
_REACH = 75.0  # metres
_MMDET_SIZE = (1280, 800)  # pixels


def has_images(cfg: Config) -> bool:
    """Whether the detector of a config looks at images."""
    return any(step['type'] == 'ImageView' for step in _pipeline(cfg, 'test'))


def _pipeline(cfg: Config, split: str) -> list[dict[str, Any]]:
    """Steps of a split's first dataset, whatever wraps it; none where the config has no such split."""
    if split not in cfg.data:
        return []
    return next(innermost_datasets(cfg.data[split])).get('pipeline', [])


def blank_images(cfg: Config, num_cams: int | None = None) -> dict[str, Any]:
    """One frame as the config's test pipeline would make it, black images seen by the cameras of a nuScenes car.

    Args:
        cfg: with ``data.test.pipeline``.
        num_cams: cameras of the rig, see :func:`~projects.mmdet3d_plugin.datasets.nuscenes_rig.nuscenes_rig`.

    Returns:
        ``img`` (1, 1, num_cams, 3, H, W), zeros, and ``img_metas`` of one frame of one sample.

    Raises:
        UserError: the pipeline makes no images, or several.
    """
    intrinsics, cam2lidar = nuscenes_rig(num_cams)
    blank = np.zeros((*IMAGE_SIZE[::-1], 3), np.uint8)
    frame = dict(images=[blank] * len(intrinsics), cam_intrinsic=intrinsics, cam2lidar=cam2lidar)
    view = _main_view(cfg)(frame)['views']['']
    meta = dict(
        lidar2img=view['lidar2img'],
        cam_intrinsic=view['cam_intrinsic'],
        cam2lidar=cam2lidar,
        ida=view['ida'],
        lidar2ego=LIDAR_TO_EGO,
        ego2global=np.eye(4),
        img_shape=[(*view['img_shape'], 3)] * len(intrinsics),
        can_bus=np.zeros(18),
        prev_bev_exists=False,
        prev_token='',
        sample_token='',
        box_type_3d=LiDARInstance3DBoxes,
    )
    return dict(img=torch.from_numpy(view['img'])[None, None], img_metas=[[meta]])


def _main_view(cfg: Config) -> Callable[[dict], dict]:
    """The transform of the config's test pipeline that makes the model's own images."""
    steps = [step for step in _pipeline(cfg, 'test') if step['type'] == 'ImageView' and not step.get('name')]
    if len(steps) != 1:
        raise UserError(
            f'the test pipeline of {cfg.filename} must have one ImageView without a name, not {len(steps)}'
        )
    return build_from_cfg(dict(steps[0]), PIPELINES)


def blank_image(cfg: Config) -> dict[str, Any]:
    """One black image of 1280x800 pixels, which mmdet counts with, as the config's test pipeline would make it.

    Args:
        cfg: with ``data.test.pipeline``, in mmdet's way.

    Returns:
        ``img`` (1, 3, H, W) and ``img_metas`` of one sample.
    """
    image = np.zeros((*_MMDET_SIZE[::-1], 3), np.uint8)
    steps = [step for step in _pipeline(cfg, 'test') if not step['type'].startswith('Load')]
    if not steps:
        raise UserError(
            f'{cfg.filename}: data.test has no pipeline, so that what the detector sees is not known'
        )
    found = Compose(steps)(
        dict(
            img=image,
            img_fields=['img'],
            img_shape=image.shape,
            ori_shape=image.shape,
            filename='',
            ori_filename='',
        )
    )
    views = found['img'] if isinstance(found['img'], list) else [found['img']]
    metas = found['img_metas'] if isinstance(found['img_metas'], list) else [found['img_metas']]
    if len(views) > 1:
        raise UserError(
            f'the test pipeline of {cfg.filename} makes {len(views)} images of one: switch it to one'
        )
    return dict(img=torch.as_tensor(views[0])[None], img_metas=[metas[0].data])


def blank_cloud(cfg: Config, path: str | None = None) -> dict[str, Any]:
    """One cloud: of a file in the layout that the config's pipeline reads, or the made-up street.

    Args:
        cfg: with ``data.train.pipeline``.
        path: of a file of points, see :func:`street_scan` for None.

    Returns:
        ``points``, one tensor (N, C) with the columns that the detector takes, and ``img_metas``.

    Raises:
        UserError: the pipeline loads no points, or the file is none of such points.
    """
    loaders = ('LoadPoints', 'LoadPointsFromFile')
    steps = [step for step in _pipeline(cfg, 'train') if step['type'] in loaders]
    if not steps:
        raise UserError(
            f'{cfg.filename}: the test pipeline makes no images (ImageView is missing) and the training pipeline loads no '
            'points (LoadPoints is missing), so there is nothing to make up a frame from'
        )
    columns, taken = steps[0]['load_dim'], steps[0]['use_dim']
    taken = list(range(taken)) if isinstance(taken, int) else list(taken)
    if path is None:
        points = street_scan(len(taken))
    else:
        cloud = read_points(Path(path), columns)[:, taken]
        points = torch.from_numpy(cloud[finite_rows(cloud)])
        if not len(points):
            raise UserError(
                f'{path} holds no points' + (' whose numbers are all finite' if len(cloud) else '')
            )
    return dict(points=[points], img_metas=[dict(box_type_3d=LiDARInstance3DBoxes)])


def thinned_cloud(cfg: Config, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of :func:`blank_cloud` with the points that the config's test pipeline leaves, equal on every call.

    Args:
        cfg: with ``data.test.pipeline``.
        batch: with ``points``, B clouds (N_i, C).
    """
    steps = Compose3D(
        [
            dict(step)
            for _, step in transforms_of(_pipeline(cfg, 'test'), 'data.test.pipeline')
            if step['type'] in ('PointsRangeFilter', 'SamplePoints')
        ]
    )
    clouds = []
    for cloud in batch['points']:
        with drawn_from(0):
            left = steps(dict(points=LiDARPoints(cloud, points_dim=cloud.shape[1])))
        clouds.append(left['points'].tensor)
    return {**batch, 'points': clouds}


def street_scan(columns: int) -> Tensor:
    """What a spinning LiDAR of 64 beams would see in a street between houses, without anything on it.

    Args:
        columns: C, at least 3.

    Returns:
        (N, C): x, y, z in metres, LiDAR frame, x forward, and zeros.
    """
    rng = np.random.default_rng(0)
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(*_ELEVATION, _BEAMS)),
        np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False),
        indexing='ij',
    )
    rays = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    ground = np.where(rays[..., 2] < 0, -_HEIGHT / np.minimum(rays[..., 2], -1e-6), np.inf)
    wall = _WALLS[0] / np.maximum(np.abs(rays[..., 1]), 1e-6)
    wall[wall * rays[..., 2] > _WALLS[1] - _HEIGHT] = np.inf
    distance = np.minimum(ground, wall) + rng.normal(0, 0.02, ground.shape)
    seen = (rays * distance[..., None])[distance < _REACH]
    return torch.from_numpy(np.pad(seen, ((0, 0), (0, columns - 3))).astype(np.float32))

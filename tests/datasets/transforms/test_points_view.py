"""The cloud of a LiDAR teacher beside a camera student's images: same frame, same world, nothing read twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.ops import points_in_boxes_cpu
from mmdet.datasets.builder import PIPELINES

from projects.configs._base_ import camera
from projects.mmdet3d_plugin.datasets.nuscenes_sweeps_dataset import NuScenesSweepsDataset
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import NuScenesTemporalDataset
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from projects.mmdet3d_plugin.datasets.transforms import load_points
from projects.mmdet3d_plugin.datasets.transforms.points_view import PointsView
from projects.mmdet3d_plugin.distill.views import add_teacher_view

LOAD = dict(type='LoadPoints', coord_type='LIDAR', load_dim=5, use_dim=5)
SWEEPS = dict(type='LoadSweeps', sweeps_num=2, use_dim=[0, 1, 2, 3, 4], test_mode=True, pad_empty_sweeps=True)
IN_RANGE = dict(type='PointsRangeFilter', point_cloud_range=[-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
WIDE = [-90.0, -90.0, -5.0, 90.0, 90.0, 3.0]
FORMAT = [IN_RANGE, dict(type='Collect3D', keys=['points'], meta_keys=['pts_filename'])]
TEACHER = [LOAD, SWEEPS, dict(type='MultiScaleFlipAug3D', img_scale=(1, 1), flip=False, transforms=FORMAT)]


def dataset(root: Path, kind: type = NuScenesTemporalDataset, **settings: Any) -> NuScenesTemporalDataset:
    """The training frames of a data root under a student's pipeline with the teacher's view."""
    train, _ = camera.lifting_pipelines((64, 32), 0.05, None, bev=settings.pop('bev', None), pc_range=WIDE)
    pipeline = settings.pop('pipeline', add_teacher_view(train, TEACHER))
    settings.setdefault('ann_file', 'nuscenes_infos_temporal_train.pkl')
    return kind(str(root), pipeline=pipeline, **settings)


def test_the_teacher_sees_what_its_own_pipeline_shows_it(tiny_nuscenes: Path) -> None:
    mine = dataset(tiny_nuscenes, queue_length=3)
    pipeline = [LOAD, SWEEPS, IN_RANGE, dict(type='Collect3D', keys=['points'], meta_keys=[])]
    theirs = dataset(tiny_nuscenes, NuScenesSweepsDataset, pipeline=pipeline, test_mode=True)
    for index in (0, 4):
        sample = mine[SeededIndex(index, 0)]
        cloud, own = sample['teacher_points'].data, theirs[index]['points'].tensor
        assert cloud.shape[1] == 5
        assert torch.equal(cloud, own)
        assert cloud[:, 4].max() < 10, 'seconds since the sweep'
        assert sample['points'].data.shape[1] == 3, "the student's own points are what its pipeline loads"


def test_no_file_is_read_twice_and_earlier_frames_of_a_queue_get_no_cloud(
    tiny_nuscenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = load_points.read_points
    monkeypatch.setattr(
        load_points, 'read_points', lambda path, dim: read.append(path.name) or plain(path, dim)
    )
    made: list[bool] = []
    seen = PointsView.__call__
    monkeypatch.setattr(
        PointsView,
        '__call__',
        lambda view, results: made.append(results['is_current']) or seen(view, results),
    )
    sample = dataset(tiny_nuscenes, queue_length=3)[SeededIndex(4, 0)]
    assert made == [False, False, True]
    assert len(read) == len(set(read)), read
    assert sample['img'].data.shape[0] == 3


def test_a_queue_that_stands_in_before_the_scene_ends_with_a_cloud(tiny_nuscenes: Path) -> None:
    assert len(dataset(tiny_nuscenes, queue_length=3)[SeededIndex(0, 0)]['teacher_points'].data)


@pytest.mark.parametrize('seed', [0, 1])
def test_the_world_is_augmented_for_points_boxes_and_images_alike(one_frame_root: Path, seed: int) -> None:
    """Real boxes hold the same points before and after, and every point keeps its pixel."""
    settings = dict(ann_file='nuscenes_infos_temporal_train.pkl')
    plain, moved = (
        dataset(one_frame_root, bev=bev, **settings)[SeededIndex(0, seed)]
        for bev in (None, camera.BEV_AUGMENTATION)
    )
    counts, pixels = [], []
    for sample in (plain, moved):
        cloud = sample['teacher_points'].data[sample['teacher_points'].data[:, 4] == 0]
        boxes = sample['gt_bboxes_3d'].data.tensor
        counts.append(points_in_boxes_cpu(cloud[None, :, :3], boxes[None, :, :7])[0].sum(0))
        near = sample['points'].data[:500].double().numpy()
        lidar2img = sample['img_metas'].data[-1]['lidar2img'][0]
        pixel = near @ lidar2img[:3, :3].T + lidar2img[:3, 3]
        pixels.append(pixel[:, :2] / pixel[:, 2:])
    near = plain['gt_bboxes_3d'].data.tensor[:, :2].norm(dim=1) < 40
    assert len(counts[0]) == len(counts[1])
    assert near.sum() > 20
    moved_away = (counts[0] - counts[1])[near].abs().sum()
    assert moved_away <= 0.01 * counts[0][near].sum(), 'points on a border may change sides'
    np.testing.assert_allclose(pixels[0], pixels[1], rtol=1e-3, atol=1e-2)
    assert not torch.allclose(plain['gt_bboxes_3d'].data.tensor, moved['gt_bboxes_3d'].data.tensor, atol=0.1)


def test_mistakes_are_clear() -> None:
    with pytest.raises(ValueError, match='must begin with what loads points'):
        PointsView(transforms=[IN_RANGE, LOAD])
    with pytest.raises(ValueError, match='needs a name'):
        PIPELINES.build(dict(type='PointsView', name='', transforms=[LOAD]))

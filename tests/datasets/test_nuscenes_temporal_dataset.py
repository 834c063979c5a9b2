from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import CLASSES, NuScenesTemporalDataset
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from tests.nuscenes_tables import EGO_VELOCITY, EGO_YAWS

RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
TARGETS = [
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True, with_attr_label=False),
    dict(type='ObjectRangeFilter', point_cloud_range=RANGE),
    dict(type='ObjectNameFilter', classes=CLASSES),
]
VIEW = [dict(type='ImageView', scale=0.5)]


def make(root: Path, part: str = 'train', views: list[dict] = VIEW, jitter: bool = False, **args: Any) -> Any:
    """A dataset of the tiny data root: scene-0001 is 0..4, scene-0002 is 5..7; validation is scene-0003."""
    train = part == 'train'
    pipeline = [
        dict(type='LoadMultiViewImages'),
        *([dict(type='PhotoMetricDistortionMultiView')] if jitter else []),
        *(TARGETS if train else []),
        *views,
        dict(type='FormatFrame'),
    ]
    args = dict(test_mode=not train, queue_length=3 if train else 1) | args
    return NuScenesTemporalDataset(str(root), f'nuscenes_infos_temporal_{part}.pkl', pipeline, **args)


def metas(sample: dict[str, Any], key: str = 'img_metas') -> list[dict[str, Any]]:
    return sample[key].data


def test_a_sample_is_a_queue_of_one_scene(tiny_nuscenes: Path) -> None:
    sample = make(tiny_nuscenes)[4]
    assert sample['img'].data.shape == (3, 6, 3, 32, 32)
    assert sample['img'].data.dtype == torch.float32
    tokens = [meta['sample_token'] for meta in metas(sample)]
    assert tokens[-1] == 'scene-0001-4'
    assert tokens == sorted(set(tokens))
    assert sample['gt_bboxes_3d'].data.tensor.shape == (6, 9)
    assert sample['gt_labels_3d'].data.tolist() == [CLASSES.index(n) for n in
        ('car', 'truck', 'bus', 'pedestrian', 'bicycle', 'barrier')]  # fmt: skip


def test_the_frames_before_are_drawn_from_as_many_as_the_queue_is_long(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    rng = np.random.default_rng(0)
    drawn = {tuple(dataset._draw_queue(4, rng)) for _ in range(60)}
    assert drawn == {(1, 2, 4), (1, 3, 4), (2, 3, 4)}


def test_the_frames_before_may_be_those_right_before(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes, random_queue=False)
    rng = np.random.default_rng(0)
    assert {tuple(dataset._draw_queue(4, rng)) for _ in range(9)} == {(2, 3, 4)}
    assert dataset._draw_queue(6, rng) == [5, 5, 6]  # a scene starts at 5
    alone = make(tiny_nuscenes, random_queue=False, queue_length=1)
    assert alone._draw_queue(4, rng) == [4]


def test_a_scene_start_repeats_its_first_frame(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    for index, exist in ((5, [False, False, False]), (0, [False, False, False]), (6, [False, False, True])):
        sample = dataset[index]
        scene = dataset.scene_tokens[index]
        assert all(meta['scene_token'] == scene for meta in metas(sample))
        assert [meta['prev_bev_exists'] for meta in metas(sample)] == exist
        assert torch.equal(sample['img'].data[0], sample['img'].data[1])
    sample = make(tiny_nuscenes, queue_length=5)[6]
    assert [meta['sample_token'] for meta in metas(sample)] == ['scene-0002-0'] * 4 + ['scene-0002-1']
    assert [meta['prev_token'] for meta in metas(sample)] == [''] * 4 + ['scene-0002-0']


def test_can_bus_holds_differences_to_the_frame_before_in_the_queue(tiny_nuscenes: Path) -> None:
    sample = make(tiny_nuscenes)[SeededIndex(4, seed=1)]
    frames = [int(meta['sample_token'][-1]) for meta in metas(sample)]
    yaws = np.degrees(EGO_YAWS)
    previous = None
    for frame, meta in zip(frames, metas(sample), strict=True):
        assert meta['can_bus'].shape == (18,)
        assert meta['can_bus'].dtype == np.float64
        assert meta['can_bus'][-2] == pytest.approx(EGO_YAWS[frame] % (2 * np.pi))
        moved, turned = (0, 0) if previous is None else (frame - previous, yaws[frame] - yaws[previous])
        assert np.allclose(meta['can_bus'][:3], EGO_VELOCITY * 0.5 * moved)
        assert meta['can_bus'][-1] == pytest.approx(turned)
        assert meta['prev_token'] == ('' if previous is None else f'scene-0001-{previous}')
        previous = frame


def test_yaw_differences_do_not_jump_at_the_full_turn(tiny_nuscenes: Path) -> None:
    """Frames 1 and 2 have yaws of 358 and 3 degrees."""
    val = make(tiny_nuscenes, 'val')
    assert [metas(val[i])[0]['can_bus'][-1] for i in range(4)] == pytest.approx([0, 4, 5, 6])
    half, base = np.zeros(18), dict(val.infos[0])
    val.infos[0] = base | dict(ego2global_rotation=[0.0, 0.0, 0.0, 1.0])  # yaw 180
    assert val._motion(half, 0)['can_bus'][-1] == 180


def test_samples_do_not_change_the_infos_nor_each_other(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    before = [info['can_bus'].copy() for info in dataset.infos]
    sample = dataset[5]
    first, second, _ = metas(sample)
    for key in ('can_bus', 'lidar2img', 'cam_intrinsic', 'cam2lidar', 'lidar2ego', 'ego2global'):
        assert not np.shares_memory(first[key], second[key])
        first[key][:] = 77
        assert not (second[key] == 77).any()
    sample['gt_bboxes_3d'].data.tensor[:] = 77
    assert all(np.array_equal(info['can_bus'], old) for info, old in zip(dataset.infos, before, strict=True))
    assert not (dataset[5]['gt_bboxes_3d'].data.tensor == 77).any()
    assert not (metas(dataset[5])[0]['lidar2img'] == 77).any()


def test_metas_are_complete(tiny_nuscenes: Path) -> None:
    (meta,) = metas(make(tiny_nuscenes, 'val')[2])
    assert set(meta) == {
        'sample_token', 'scene_token', 'prev_token', 'prev_bev_exists', 'can_bus', 'lidar2img', 'cam_intrinsic',
        'cam2lidar', 'img_shape', 'valid_shape', 'pad_shape', 'filename', 'lidar2ego', 'ego2global', 'box_type_3d',
        'pc_range', 'view', 'cam_names', 'ida',
    }  # fmt: skip
    assert meta['lidar2img'].shape == meta['cam2lidar'].shape == (6, 4, 4)
    assert meta['cam_intrinsic'].shape == meta['ida'].shape == (6, 3, 3)
    assert meta['img_shape'] == meta['pad_shape'] == [(32, 32, 3)] * 6
    assert meta['valid_shape'] == [(18, 32, 3)] * 6
    assert meta['view'] == 'student'
    assert (meta['prev_token'], meta['prev_bev_exists']) == ('scene-0003-1', True)


def test_in_testing_frames_come_in_order_without_targets(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes, 'val')
    samples = [dataset[i] for i in range(len(dataset))]
    assert [metas(s)[0]['sample_token'] for s in samples] == [f'scene-0003-{i}' for i in range(4)]
    assert [metas(s)[0]['prev_bev_exists'] for s in samples] == [False, True, True, True]
    assert all(set(s) == {'img', 'img_metas'} for s in samples)
    np.random.seed(0)
    before = np.random.get_state()[2]
    dataset[1]
    assert np.random.get_state()[2] == before  # an evaluation between two epochs changes no training


@pytest.mark.parametrize(
    'teacher', [dict(type='ImageView', name='teacher'), dict(type='UpsampledView', name='teacher', factor=2)]
)
def test_two_views_come_from_one_decode_with_one_jitter(
    tiny_nuscenes: Path, monkeypatch: pytest.MonkeyPatch, teacher: dict[str, Any]
) -> None:
    decoded = []
    original = cv2.imdecode
    monkeypatch.setattr(cv2, 'imdecode', lambda *args: decoded.append(1) or original(*args))
    sample = make(tiny_nuscenes, views=[*VIEW, teacher], jitter=True)[SeededIndex(4, seed=5)]
    assert len(decoded) == 3 * 6
    student, big = sample['img'].data, sample['teacher_img'].data
    assert big.shape == (3, 6, 3, 64, 64)
    if teacher['type'] == 'ImageView':
        pairs = F.avg_pool2d(big.flatten(0, 1), 2).view_as(student), student
    else:
        pairs = F.interpolate(student.flatten(0, 1), scale_factor=2, mode='bilinear').view_as(big), big
    assert (pairs[0] - pairs[1])[..., :18, :].abs().max() < 1e-2
    for small, large in zip(metas(sample), metas(sample, 'teacher_img_metas'), strict=True):
        assert large['view'] == 'teacher'
        assert large['sample_token'] == small['sample_token']
        assert np.allclose(large['cam_intrinsic'][:, :2], 2 * small['cam_intrinsic'][:, :2])
        assert np.array_equal(large['can_bus'], small['can_bus'])
        assert not np.shares_memory(large['can_bus'], small['can_bus'])


def test_a_seeded_index_fixes_all_chance(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes, jitter=True)
    one, same, other = (dataset[SeededIndex(4, seed)] for seed in (7, 7, 8))
    assert torch.equal(one['img'].data, same['img'].data)
    assert not torch.equal(one['img'].data, other['img'].data)
    np.random.seed(3)
    plain = dataset[4]['img'].data
    np.random.seed(3)
    assert torch.equal(dataset[4]['img'].data, plain)


def test_samples_without_targets_are_replaced(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    for index in range(4):
        dataset.infos[index] = dict(dataset.infos[index], gt_names=np.array(['animal'] * 8))
    assert metas(dataset[2])[-1]['sample_token'] not in {f'scene-0001-{i}' for i in range(4)}
    kept = make(tiny_nuscenes, filter_empty=False)
    kept.infos[2] = dataset.infos[2]
    sample = kept[2]
    assert metas(sample)[-1]['sample_token'] == 'scene-0001-2'
    assert len(sample['gt_labels_3d'].data) == len(sample['gt_bboxes_3d'].data) == 0
    with pytest.raises(ValueError, match='set filter_empty=False'):
        make(tiny_nuscenes, point_cloud_range=[-1, -1, -5, 1, 1, 3])


def test_boxes_no_point_hits_are_no_targets_but_stay_in_testing(tiny_nuscenes: Path) -> None:
    assert len(make(tiny_nuscenes).get_ann_info(0)['gt_names']) == 6
    assert len(make(tiny_nuscenes, use_valid_flag=False).get_ann_info(0)['gt_names']) == 7
    assert len(make(tiny_nuscenes, 'val').get_ann_info(0)['gt_names']) == 7


def test_points_of_the_real_frame_fall_into_its_boxes(one_frame_root: Path) -> None:
    """Loaded by mmdet3d's own steps, so paths, times and frames are what LiDAR detectors expect."""
    pipeline = [
        dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=5),
        dict(type='LoadPointsFromMultiSweeps', sweeps_num=10),
        dict(type='LoadMultiViewImages'),
        *TARGETS,
        dict(type='ImageView', size=(64, 36)),
        dict(type='FormatFrame'),
    ]
    dataset = NuScenesTemporalDataset(str(one_frame_root), 'nuscenes_infos_temporal_train.pkl', pipeline)
    sample = dataset[0]
    boxes, points = sample['gt_bboxes_3d'].data, sample['points'].data[:, :3]
    inside = []
    for center, (*size, yaw) in zip(boxes.gravity_center, boxes.tensor[:, 3:7].tolist(), strict=True):
        x, y, z = (points - center).T
        along, across = x * np.cos(yaw) + y * np.sin(yaw), y * np.cos(yaw) - x * np.sin(yaw)
        local = torch.stack([along, across, z], 1).abs()
        inside.append(int((local <= torch.tensor(size) / 2).all(1).sum()))
    info = dataset.infos[0]
    kept = info['valid_flag'] & (abs(info['gt_boxes'][:, :2]) < 51.2).all(1)
    recorded = info['num_lidar_pts'][kept & np.isin(info['gt_names'], CLASSES)]
    assert len(inside) == len(recorded) > 40
    assert sum(inside) == pytest.approx(recorded.sum(), rel=0.05)
    assert np.abs(inside - recorded).max() <= 0.1 * recorded.max()


def test_wrong_settings_are_said(tiny_nuscenes: Path) -> None:
    with pytest.raises(
        ValueError, match="'pedestrain' is no class of nuScenes detection; did you mean 'pedestrian'"
    ):
        make(tiny_nuscenes, classes=['car', 'pedestrain'])
    with pytest.raises(ValueError, match="no transform 'ImageViw'; did you mean 'ImageView'"):
        make(tiny_nuscenes, views=[dict(type='ImageViw')])
    with pytest.raises(ValueError, match='queue_length=2: it must be at least 1, and 1 with test_mode=True'):
        make(tiny_nuscenes, 'val', queue_length=2)
    with pytest.raises(FileNotFoundError, match=r'create_data\.py nuscenes --root-path'):
        make(tiny_nuscenes / 'elsewhere')
    with pytest.raises(ValueError, match='put an ImageView before FormatFrame'):
        make(tiny_nuscenes, views=[])[0]

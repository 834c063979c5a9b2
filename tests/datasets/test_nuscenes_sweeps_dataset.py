"""Point clouds of nuScenes: the real keyframe through the LiDAR configs, training, testing and the devkit."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config
from mmcv.ops import points_in_boxes_cpu

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.nuscenes_sweeps_dataset import NuScenesSweepsDataset
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch


@pytest.fixture
def cfg(one_frame_root: Path) -> Config:
    """CenterPoint-pillar with few channels and large pillars, on the one real frame in training and testing."""
    cfg = load_config('centerpoint_pillar_nuscenes.py', data_root=one_frame_root)
    cfg.data.update(samples_per_gpu=1, workers_per_gpu=0)
    cfg.data.test.ann_file = cfg.data.train.ann_file
    voxel, model = [0.8, 0.8, 8], cfg.model
    model.pts_voxel_layer.voxel_size = model.pts_voxel_encoder.voxel_size = voxel
    model.pts_voxel_encoder.feat_channels = [8]
    model.pts_middle_encoder.update(in_channels=8, output_shape=[128, 128])
    model.pts_backbone.update(in_channels=8, out_channels=[8, 8, 8], layer_nums=[1, 1, 1])
    model.pts_neck.update(in_channels=[8, 8, 8], out_channels=[8, 8, 8])
    model.pts_bbox_head.update(in_channels=24, share_conv_channel=8)
    model.pts_bbox_head.separate_head.head_conv = 8
    model.train_cfg.pts.grid_size = [128, 128, 1]
    for part in (model.pts_bbox_head.bbox_coder, model.train_cfg.pts, model.test_cfg.pts):
        part.voxel_size = voxel
    return cfg


def dataset(cfg: Config, split: str) -> NuScenesSweepsDataset:
    return build_split(cfg, split, test_mode=split == 'test')


def test_a_training_sample_has_ten_sweeps_of_points_and_its_boxes(cfg: Config) -> None:
    sample = dataset(cfg, 'train')[SeededIndex(0, 1)]
    points, boxes = sample['points'].data, sample['gt_bboxes_3d'].data
    assert points.shape[1] == 5
    # there is one sweep on disk: the keyframe stands in nine times, without the points on the car's own roof
    assert 200_000 < len(points) < 10 * 34_720
    assert points[:, 4].unique().tolist() == [0.0]
    assert boxes.tensor.shape == (len(sample['gt_labels_3d'].data), 9)
    assert (points[:, :2].abs() <= 51.2).all()
    # augmentation turns boxes and points alike: boxes still hold points, each those of ten equal sweeps
    inside = points_in_boxes_cpu(points[None, :, :3], boxes.tensor[None, :, :7])
    assert inside.sum() > 1000
    assert (inside[0].sum(0) >= 10).float().mean() > 0.9


def test_a_seeded_index_fixes_all_chance(cfg: Config) -> None:
    frames = dataset(cfg, 'train')
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, again, other = (frames[SeededIndex(0, seed)]['points'].data for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())


def test_the_real_frame_trains_and_is_evaluated_by_the_devkit(cfg: Config, tmp_path: Path) -> None:
    launch = start('none')
    torch.manual_seed(0)
    model = build_model(copy.deepcopy(cfg.model))
    model.init_weights()
    train = dataset(cfg, 'train')
    batch = unpack_batch(next(iter(build_loader(cfg, train, True, launch))), launch)
    outputs = model.train_step(batch, None)
    outputs['loss'].backward()
    assert 0 < outputs['log_vars']['loss'] < 1000
    test = dataset(cfg, 'test')
    results = run_inference(model, build_loader(cfg, test, False, launch), launch)
    metrics = test.evaluate(results, out_dir=tmp_path)
    assert 0 <= metrics['NDS'] <= 1
    written = json.loads((tmp_path / 'results_nusc.json').read_text())
    assert written['meta'] == dict(
        use_camera=False, use_lidar=True, use_radar=False, use_map=False, use_external=False
    )


def test_the_truth_scores_like_the_camera_datasets(cfg: Config, tmp_path: Path) -> None:
    """Perfect predictions score mAP 0.500 on this frame, a little less with those that no point hits."""
    test = dataset(cfg, 'test')
    truth: dict[str, Any] = test.get_ann_info(0)
    found = dict(
        boxes_3d=truth['gt_bboxes_3d'],
        scores_3d=torch.ones(len(truth['gt_labels_3d'])),
        labels_3d=torch.from_numpy(truth['gt_labels_3d']),
    )
    assert test.evaluate([dict(pts_bbox=found)])['mAP'] == pytest.approx(0.5, abs=0.01)

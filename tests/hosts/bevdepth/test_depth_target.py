"""What LiDAR says about depth, against loops, and the counts that are known of the real frame."""

from pathlib import Path

import pytest
import torch
from mmdet3d.datasets import build_dataset

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.hosts.bevdepth.depth_target import depth_labels, depth_loss, nearest_depth
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import LiftSplat
from tests.hosts.bevdepth.test_bevdepth import meta

LIFT = LiftSplat([-51.2, -51.2, -5, 51.2, 51.2, 3], 3.2, (2.0, 58.0, 0.5), (64, 192), 16)


def test_every_cell_has_the_depth_of_its_nearest_point() -> None:
    torch.manual_seed(0)
    cloud = torch.randn(400, 3, dtype=torch.float64) * torch.tensor([20.0, 20, 1])
    projection = torch.from_numpy(meta(0)['lidar2img'])[None]
    nearest = nearest_depth([cloud], projection, (64, 192), 16)
    expected = torch.full((6, 4, 12), torch.inf, dtype=torch.float64)
    for camera in range(6):
        for point in cloud:
            u, v, depth = (projection[0, camera, :3, :3] @ point + projection[0, camera, :3, 3]).tolist()
            if depth > 0 and 0 <= u / depth < 192 and 0 <= v / depth < 64:
                row, column = int(v / depth // 16), int(u / depth // 16)
                expected[camera, row, column] = min(depth, expected[camera, row, column])
    torch.testing.assert_close(nearest, expected)
    assert nearest.isfinite().any()


def test_labels_and_loss() -> None:
    nearest = torch.tensor([[[1.9, 2.0, 2.49, 2.5, 57.99, 58.0, torch.inf]]], dtype=torch.float64)
    labels = depth_labels(nearest, LIFT)
    assert labels.flatten().tolist() == [-1, 0, 0, 1, 111, -1, -1]
    assert depth_labels(nearest, LIFT, centred=True).flatten().tolist() == [0, 0, 1, 1, -1, -1, -1]
    depth = torch.rand(1, 112, 1, 7, dtype=torch.float64).softmax(1).requires_grad_()
    expected = 0.0
    for column, label in enumerate(labels.flatten().tolist()):
        for k in range(112) if label >= 0 else ():
            p = depth[0, k, 0, column]
            expected = expected - (p.log() if k == label else (1 - p).log()) / 4
    torch.testing.assert_close(depth_loss(depth, labels), expected)
    assert torch.autograd.gradcheck(lambda x: depth_loss(x, labels), depth)
    assert depth_loss(depth, labels * 0 - 1) == 0


def test_the_real_frame_labels_as_many_cells_as_are_known(one_frame_root: Path) -> None:
    cfg = load_config('projects/configs/bevdepth/bevdepth_r50_256x704.py', None, str(one_frame_root))
    pipeline = [step for step in cfg.data.train.pipeline if step['type'] != 'BEVAugmentation']
    for step in pipeline:
        step.pop('augment', None)
    cfg.data.train.pipeline = pipeline
    sample = build_dataset(cfg.data.train)[0]
    lidar2img = torch.from_numpy(sample['img_metas'].data[-1]['lidar2img'])[None]
    nearest = nearest_depth([sample['points'].data], lidar2img, (256, 704), 16)
    lift = LiftSplat([-51.2, -51.2, -5, 51.2, 51.2, 3], 0.8, (2.0, 58.0, 0.5), (256, 704), 16)
    labels = depth_labels(nearest, lift)
    names = sample['img_metas'].data[-1]['cam_names']
    order = ['CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT']
    counts = [(labels[names.index(name)] >= 0).sum().item() for name in order]
    assert counts == pytest.approx([703, 629, 663, 699, 596, 611], abs=1)

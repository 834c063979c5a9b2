"""Small models and made-up frames that several tests share."""

from typing import Any

import numpy as np
import torch
from mmdet.models import DETECTORS
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import nn

from projects.mmdet3d_plugin import hosts  # noqa: F401  registers the hosts

PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
IMAGE_SIZE = (64, 96)
NUM_CAMS = 6


def pint_bevformer_config(**head: Any) -> dict[str, Any]:
    """A BEVFormer with every part in place and 0.5 M parameters."""
    return dict(
        type='BEVFormer',
        use_grid_mask=True,
        img_backbone=dict(type='ResNet', depth=18, num_stages=4, base_channels=16, out_indices=(2, 3)),
        img_neck=dict(type='FPN', in_channels=[64, 128], out_channels=32, num_outs=2),
        pts_bbox_head=dict(
            type='BEVFormerHead',
            bev_h=10,
            bev_w=12,
            num_query=20,
            num_classes=10,
            pc_range=PC_RANGE,
            box_convention='legacy',
            transformer=dict(
                type='PerceptionTransformer',
                embed_dims=32,
                num_cams=NUM_CAMS,
                encoder=dict(num_layers=2, num_heads=4, num_levels=2, num_points=4, feedforward_dims=32),
                decoder=dict(num_layers=2, num_heads=4, feedforward_dims=32),
            ),
            bbox_coder=dict(post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0], max_num=15),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
            **{'loss_bbox': dict(type='L1Loss', loss_weight=0.25), **head},
        ),
    )


def pint_bevformer(seed: int = 0, **head: Any) -> nn.Module:
    """A freshly initialised :func:`pint_bevformer_config` in ``eval()``."""
    torch.manual_seed(seed)
    model = DETECTORS.build(pint_bevformer_config(**head))
    model.init_weights()
    with torch.no_grad():  # attention that depends on its query, unlike at initialisation
        for name, parameter in model.named_parameters():
            if 'sampling_offsets.weight' in name or 'attention_weights.weight' in name:
                parameter.normal_(std=0.05)
    return model.eval()


def pint_detr3d_config(num_cams: int = NUM_CAMS, **head: Any) -> dict[str, Any]:
    """A DETR3D with every part in place, on the images of :func:`pint_bevformer_config`."""
    cfg = pint_bevformer_config()
    bevformer = cfg['pts_bbox_head']
    kept = ('num_query', 'num_classes', 'pc_range', 'box_convention', 'bbox_coder', 'loss_cls', 'loss_bbox')
    decoder = dict(num_layers=2, num_heads=4, feedforward_dims=32)
    transformer = dict(
        type='DETR3DTransformer', embed_dims=32, num_cams=num_cams, num_levels=2, decoder=decoder
    )
    parts = {key: bevformer[key] for key in kept}
    return cfg | dict(
        type='DETR3D', pts_bbox_head=dict(type='DETR3DHead', transformer=transformer, **parts) | head
    )


def pint_detr3d(seed: int = 0, **config: Any) -> nn.Module:
    """A freshly initialised :func:`pint_detr3d_config` in ``eval()``, whose attention depends on its query."""
    torch.manual_seed(seed)
    model = DETECTORS.build(pint_detr3d_config(**config))
    model.init_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'attention_weights.weight' in name:
                parameter.normal_(std=0.05)
    return model.eval()


def ring_of_cameras(seed: int) -> np.ndarray:
    """(num_cams, 4, 4) LiDAR-to-pixel matrices of cameras that look outwards, with a jitter of their own."""
    rng = np.random.default_rng(seed)
    h, w = IMAGE_SIZE
    matrices = []
    for i in range(NUM_CAMS):
        yaw = np.pi / 2 - i * np.pi / 3 + rng.normal(0, 0.05)
        forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        rotation = np.stack([right, [0.0, 0.0, -1.0], forward])
        intrinsic = np.array([[0.8 * w, 0, w / 2], [0, 0.8 * w, h / 2], [0, 0, 1.0]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = intrinsic @ rotation, intrinsic @ (-rotation @ forward)
        matrices.append(pose)
    return np.stack(matrices)


def frame_meta(seed: int, token: str = 'b', prev_token: str = 'a', exists: bool = True) -> dict[str, Any]:
    """The meta of one made-up frame."""
    rng = np.random.default_rng(seed)
    can_bus = rng.normal(size=18)
    can_bus[-1] = rng.normal(0, 10)
    if not exists:
        can_bus[:3] = can_bus[-1] = 0
    return dict(
        sample_token=token,
        prev_token=prev_token if exists else '',
        scene_token='scene',
        prev_bev_exists=exists,
        can_bus=can_bus,
        lidar2img=ring_of_cameras(seed),
        img_shape=[(*IMAGE_SIZE, 3)] * NUM_CAMS,
        box_type_3d=LiDARInstance3DBoxes,
    )


def frame_batch(seeds: list[int], queue: int = 1, **meta: Any) -> dict[str, Any]:
    """Images and metas of one queue per seed, and some ground truth."""
    images, metas, boxes, labels = [], [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        images.append(torch.randn(queue, NUM_CAMS, 3, *IMAGE_SIZE, generator=generator))
        frames = [frame_meta(1000 * seed + t, token=str(t), prev_token=str(t - 1)) for t in range(queue)]
        frames[0] = frame_meta(1000 * seed, token='0', exists=False) if queue > 1 else frames[0]
        for frame in frames:
            frame.update(meta)
        metas.append(frames)
        count = 2 + seed % 3
        box = torch.rand(count, 9, generator=generator) * 20 + 0.5
        boxes.append(LiDARInstance3DBoxes(box, box_dim=9))
        labels.append(torch.randint(10, (count,), generator=generator))
    return dict(img=torch.stack(images), img_metas=metas, gt_bboxes_3d=boxes, gt_labels_3d=labels)

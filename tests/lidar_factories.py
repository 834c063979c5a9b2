"""LiDAR detectors on tiny grids, and batches for them."""

import copy
from typing import Any

import numpy as np
import torch
from mmdet3d.core.bbox import Box3DMode, LiDARInstance3DBoxes
from torch import Tensor

RANGE = [0.0, -3.2, -3.0, 6.4, 3.2, 1.0]
SIZES = [[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]]


def pillar_config(width: int = 8, voxel: float = 0.4) -> dict[str, Any]:
    """PointPillars on 16 x 16 pillars, three classes."""
    cells = round(6.4 / voxel)
    return dict(
        type='VoxelNet',
        voxel_layer=dict(
            voxel_size=[voxel, voxel, 4], point_cloud_range=RANGE, max_num_points=5, max_voxels=(60, 90)
        ),
        voxel_encoder=dict(
            type='PillarFeatureNet',
            in_channels=4,
            feat_channels=[width],
            voxel_size=[voxel, voxel, 4],
            point_cloud_range=RANGE,
        ),
        middle_encoder=dict(type='PointPillarsScatter', in_channels=width, output_shape=[cells, cells]),
        **_bev_parts(width, width),
        bbox_head=_anchor_head(2 * width),
        **_anchor_settings(),
    )


def second_config(width: int = 8) -> dict[str, Any]:
    """SECOND on 32 x 32 x 8 voxels."""
    return dict(
        type='VoxelNet',
        voxel_layer=dict(
            voxel_size=[0.2, 0.2, 0.5], point_cloud_range=RANGE, max_num_points=5, max_voxels=(300, 300)
        ),
        voxel_encoder=dict(type='HardSimpleVFE'),
        middle_encoder=dict(
            type='SparseEncoder',
            in_channels=4,
            sparse_shape=[9, 32, 32],
            base_channels=4,
            output_channels=width,
            encoder_channels=((4,), (8, 8), (8, 8)),
            encoder_paddings=((1,), (1, 1), (1, 1)),
            order=('conv', 'norm', 'act'),
        ),
        **_bev_parts(width, width, strides=(1, 2)),
        bbox_head=_anchor_head(2 * width),
        **_anchor_settings(),
    )


def centerpoint_config(width: int = 8, voxel: float = 0.4, sparse: bool = False) -> dict[str, Any]:
    """CenterPoint on pillars or, with ``sparse``, on voxels: two tasks, velocity."""
    parts = second_config(width) if sparse else pillar_config(width, voxel)
    factor = 4 if sparse else 1
    size = parts['voxel_layer']['voxel_size']
    cell = dict(out_size_factor=factor, voxel_size=size)
    parts = {f'pts_{key}': parts[key] for key in ('voxel_layer', 'voxel_encoder', 'middle_encoder')}
    parts |= {f'pts_{key}': part for key, part in _bev_parts(width, width, strides=(1, 2)).items()}
    coder = dict(
        type='CenterPointBBoxCoder',
        pc_range=RANGE[:2],
        post_center_range=RANGE,
        max_num=20,
        code_size=9,
        **cell,
    )
    head = dict(
        type='CenterPointHead',
        in_channels=2 * width,
        share_conv_channel=width,
        tasks=[dict(num_class=2, class_names=['a', 'b']), dict(num_class=1, class_names=['c'])],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        separate_head=dict(type='SeparateHead', head_conv=width, init_bias=-2.19, final_kernel=3),
        bbox_coder=coder,
        loss_bbox=dict(type='L1Loss', reduction='mean', loss_weight=0.25),
    )
    cells = [round(6.4 / size[0]), round(6.4 / size[1]), 1]
    train = dict(
        grid_size=cells, point_cloud_range=RANGE, dense_reg=1, gaussian_overlap=0.1, max_objs=20, min_radius=1
    )
    test = dict(
        post_center_limit_range=RANGE, score_threshold=0.1, nms_type='rotate', nms_thr=0.2, pre_max_size=20
    )
    return dict(
        type='CenterPoint',
        **parts,
        pts_bbox_head=head,
        train_cfg=dict(pts=dict(code_weights=[1.0] * 10, **train, **cell)),
        test_cfg=dict(pts=dict(post_max_size=10, pc_range=RANGE[:2], **test, **cell)),
    )


def mvx_config(width: int = 8) -> dict[str, Any]:
    """Pillars with an FPN, as on nuScenes: two levels, anchors shared by three classes."""
    parts = pillar_config(width)
    encoder = dict(parts['voxel_encoder'], type='HardVFE', feat_channels=[width, width])
    encoder |= dict(with_cluster_center=True, with_voxel_center=True)
    head = _anchor_head(width)
    head.pop('assign_per_class')
    head['anchor_generator'] |= dict(
        ranges=[[*RANGE[:2], -1.0, *RANGE[3:5], -1.0]], scales=[1, 2], reshape_out=True
    )
    settings = _anchor_settings()
    settings['train_cfg']['assigner'] = settings['train_cfg']['assigner'][0]
    return dict(
        type='MVXFasterRCNN',
        pts_voxel_layer=parts['voxel_layer'],
        pts_voxel_encoder=encoder,
        pts_middle_encoder=parts['middle_encoder'],
        pts_backbone=parts['backbone'],
        pts_neck=dict(type='FPN', in_channels=[width, 2 * width], out_channels=width, num_outs=2),
        pts_bbox_head=head,
        **{key: dict(pts=value) for key, value in settings.items()},
    )


def roi_head_config(**maps: int) -> dict[str, Any]:
    """A second stage that sees BEV maps, name -> channels, and the raw points."""
    return dict(
        type='RoIHead',
        features=[
            dict(type='BEVGridFeatures', maps=maps, pc_range=RANGE, channels=4, grid=3),
            dict(type='PointSetFeatures', channels=[8, 8], most=16),
        ],
        train_proposals=dict(before=40, iou=0.5, kept=12),
        test_proposals=dict(before=40, iou=0.5, kept=12),
        sampler=dict(shifted=2),
        hidden=16,
        box_iou=0.3,
        score_thr=0.0,
        max_num=10,
    )


def two_stage_config(width: int = 8) -> dict[str, Any]:
    """PointPillars with a second stage."""
    roi_head = roi_head_config(scatter=width, bev=2 * width)
    return dict(pillar_config(width), type='TwoStageVoxelNet', roi_head=roi_head)


def voxel_rcnn_config(width: int = 8) -> dict[str, Any]:
    """SECOND with Voxel R-CNN's head on two stages of its encoder."""
    stages = [
        dict(map='voxels_0', channels=4, stride=1, radius=0.5),
        dict(map='voxels_1', channels=8, stride=2, radius=1.0),
    ]
    roi_head = roi_head_config()
    roi_head['features'] = [
        dict(
            type='VoxelGridFeatures',
            stages=stages,
            pc_range=RANGE,
            voxel_size=[0.2, 0.2, 0.5],
            grid=2,
            neighbours=4,
            channels=4,
        )
    ]
    return dict(second_config(width), type='TwoStageVoxelNet', roi_head=roi_head)


def slow_centerpoint_config(width: int = 8) -> dict[str, Any]:
    """CenterPoint on pillars whose boxes have 7 numbers: no velocity."""
    cfg = centerpoint_config(width)
    cfg['pts_bbox_head']['common_heads'].pop('vel')
    cfg['pts_bbox_head']['bbox_coder']['code_size'] = 7
    cfg['train_cfg']['pts']['code_weights'] = [1.0] * 8
    return cfg


def two_stage_centerpoint_config(width: int = 8, velocity: bool = False) -> dict[str, Any]:
    """CenterPoint on pillars with a second stage."""
    cfg = centerpoint_config(width) if velocity else slow_centerpoint_config(width)
    roi_head = roi_head_config(stage_0=width, bev=2 * width)
    return dict(cfg, type='TwoStageCenterPoint', roi_head=roi_head)


def lidarformer_config(width: int = 8, embed_dims: int = 32, sparse: bool = False) -> dict[str, Any]:
    """Pillars or, with ``sparse``, voxels, a BEV of 16 x 16 or 8 x 8 cells and BEVFormer's decoder with proposals; three
    classes, velocity."""
    parts, cells = second_config(width) if sparse else pillar_config(width), 8 if sparse else 16
    names = ('voxel_layer', 'voxel_encoder', 'middle_encoder')
    parts = {name: parts[name] for name in names} | _bev_parts(width, width, strides=(1, 2))
    head = dict(
        type='BEVDecoderHead',
        num_classes=3,
        pc_range=RANGE,
        bev_h=cells,
        bev_w=cells,
        num_query=20,
        box_convention='v1.0',
        proposals=dict(),
        transformer=dict(
            type='PerceptionTransformer',
            embed_dims=embed_dims,
            decoder=dict(num_layers=2, num_heads=4, feedforward_dims=32),
        ),
        bbox_coder=dict(max_num=10, post_center_range=RANGE),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=0.25),
    )
    return dict(
        type='LidarFormer', **{f'pts_{name}': part for name, part in parts.items()}, pts_bbox_head=head
    )


def _bev_parts(channels: int, width: int, strides: tuple[int, int] = (2, 2)) -> dict[str, Any]:
    """Backbone of two stages and neck; the BEV feature has the first stage's size."""
    backbone = dict(
        type='SECOND',
        in_channels=channels,
        out_channels=[width, 2 * width],
        layer_nums=[1, 1],
        layer_strides=list(strides),
    )
    neck = dict(
        type='SECONDFPN',
        in_channels=[width, 2 * width],
        out_channels=[width, width],
        upsample_strides=[1, 2],
    )
    return dict(backbone=backbone, neck=neck)


def _anchor_head(channels: int) -> dict[str, Any]:
    return dict(
        type='Anchor3DHead',
        num_classes=3,
        in_channels=channels,
        feat_channels=channels,
        assign_per_class=True,
        anchor_generator=dict(
            type='AlignedAnchor3DRangeGenerator',
            ranges=[[*RANGE[:2], -1.0, *RANGE[3:5], -1.0]] * 3,
            sizes=SIZES,
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=2.0),
        loss_dir=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.2),
    )


def _anchor_settings() -> dict[str, Any]:
    overlap = dict(type='MaxIoUAssigner', iou_calculator=dict(type='BboxOverlapsNearest3D'))
    assigner = dict(overlap, pos_iou_thr=0.35, neg_iou_thr=0.2, min_pos_iou=0.2, ignore_iof_thr=-1)
    test = dict(use_rotate_nms=True, nms_across_levels=False, nms_thr=0.01, score_thr=0.0, min_bbox_size=0)
    return dict(
        train_cfg=dict(assigner=[assigner] * 3, allowed_border=0, pos_weight=-1, debug=False),
        test_cfg=dict(test, nms_pre=20, max_num=10),
    )


def lidar_batch(seeds: list[int], box_dim: int = 7) -> dict[str, Any]:
    """One sample per seed as the engine hands it to a detector: 200 points, one box of each of three classes."""
    samples = [_sample(seed, box_dim) for seed in seeds]
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def one_view(seeds: list[int]) -> dict[str, Any]:
    """What a test pipeline gives: one augmentation, which is none."""
    batch = lidar_batch(seeds)
    return dict(points=[batch['points']], img_metas=[batch['img_metas']])


def emptied(batch: dict[str, Any], which: list[int], outside: bool = False) -> dict[str, Any]:
    """A batch of which some clouds have no points, or, ``outside``, none in range."""
    clouds = list(batch['points'])
    for i in which:
        clouds[i] = clouds[i] + torch.tensor([1000.0, 0, 0, 0]) if outside else clouds[i][:0]
    return {**batch, 'points': clouds}


def _sample(seed: int, box_dim: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    low, high = np.array([*RANGE[:3], 0.0]), np.array([*RANGE[3:], 1.0])
    centers = rng.uniform(low[:3] + 1, high[:3] - 1, (3, 3))
    rest = np.zeros((3, box_dim - 7))
    boxes = np.hstack([centers, SIZES, rng.uniform(-3, 3, (3, 1)), rest]).astype(np.float32)
    return dict(
        points=torch.from_numpy(rng.uniform(low, high, (200, 4)).astype(np.float32)),
        img_metas=dict(box_type_3d=LiDARInstance3DBoxes, box_mode_3d=Box3DMode.LIDAR, sample_idx=seed),
        gt_bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=box_dim),
        gt_labels_3d=torch.arange(3),
    )


def total(losses: dict[str, Any]) -> Tensor:
    """Sum of a detector's losses."""
    return sum(sum(loss) if isinstance(loss, list) else loss for loss in losses.values())


def fresh(cfg: dict[str, Any]) -> dict[str, Any]:
    """A copy: mmdet3d's detectors write into their config."""
    return copy.deepcopy(cfg)

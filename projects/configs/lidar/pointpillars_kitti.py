# PointPillars on KITTI, three classes: the 1x teacher of PointDistiller. Pillars of 0.16 m, 4.8 M parameters.
# Students are this file at another width: pointpillars_kitti_{2,4,8,16}x.py.
from projects.configs._base_ import kitti

_base_ = [
    '../_base_/datasets/kitti.py',
    '../_base_/schedules/cyclic_80e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [0, -39.68, -3, 69.12, 39.68, 1]
_voxel = [0.16, 0.16, 4]
# Pedestrian, Cyclist, Car: (length, width, height) of the anchor and z of its bottom, metres
_sizes = [[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]]
_ranges = [[0, -39.68, z, 69.12, 39.68, z] for z in (-0.6, -0.6, -1.78)]
_iou = dict(type='MaxIoUAssigner', iou_calculator=dict(type='BboxOverlapsNearest3D'), ignore_iof_thr=-1)
_small = dict(pos_iou_thr=0.5, neg_iou_thr=0.35, min_pos_iou=0.35, **_iou)
_large = dict(pos_iou_thr=0.6, neg_iou_thr=0.45, min_pos_iou=0.45, **_iou)

# Pillars end a little earlier than the dataset's range; unlike SECOND, PointPillars moves no single objects.
_train_pipeline = kitti.training(
    {{_base_.load_points}},
    {{_base_.object_sample}},
    *kitti.whole_frame(),
    point_cloud_range=point_cloud_range,
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
)
_range = dict(point_cloud_range=point_cloud_range)
data = dict(train=dict(pipeline=_train_pipeline, **_range), val=_range, test=_range)

model = dict(
    type='VoxelNet',
    voxel_layer=dict(
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        max_num_points=32,
        max_voxels=(16000, 40000),  # in training, in testing
    ),
    voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=4,
        feat_channels=[64],
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
    ),
    middle_encoder=dict(type='PointPillarsScatter', in_channels=64, output_shape=[496, 432]),
    backbone=dict(
        type='SECOND',
        in_channels=64,
        out_channels=[64, 128, 256],
        layer_nums=[3, 5, 5],
        layer_strides=[2, 2, 2],
    ),
    neck=dict(
        type='SECONDFPN',
        in_channels=[64, 128, 256],
        out_channels=[128, 128, 128],
        upsample_strides=[1, 2, 4],
    ),
    bbox_head=dict(
        type='Anchor3DHead',
        num_classes=3,
        in_channels=384,
        feat_channels=384,
        assign_per_class=True,
        anchor_generator=dict(
            type='AlignedAnchor3DRangeGenerator',
            ranges=_ranges,
            sizes=_sizes,
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=2.0),
        loss_dir=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(assigner=[_small, _small, _large], allowed_border=0, pos_weight=-1, debug=False),
    test_cfg=dict(
        use_rotate_nms=True,
        nms_across_levels=False,
        nms_thr=0.01,
        nms_pre=100,
        score_thr=0.1,
        min_bbox_size=0,
        max_num=50,
    ),
)

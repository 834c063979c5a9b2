# PointPillars on nuScenes, ten classes: the 1x teacher of PointDistiller's nuScenes rows. Pillars of 0.25 m, FPN.
_base_ = [
    '../_base_/datasets/nuscenes_lidar.py',
    '../_base_/schedules/step_24e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [-50, -50, -5, 50, 50, 3]
_voxel = [0.25, 0.25, 8]
_norm = dict(eps=1e-3, momentum=0.01)
# Four shapes of anchors, (length, width, height) in units of the level's scale, shared by all classes
_sizes = [[2.5981, 0.8660, 1.0], [1.7321, 0.5774, 1.0], [1.0, 1.0, 1.0], [0.4, 0.4, 1.0]]

model = dict(
    type='MVXFasterRCNN',
    pts_voxel_layer=dict(
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        max_num_points=64,
        max_voxels=(30000, 40000),
    ),
    pts_voxel_encoder=dict(
        type='HardVFE',
        in_channels=5,
        feat_channels=[64, 64],
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        with_cluster_center=True,
        with_voxel_center=True,
        norm_cfg=dict(type='BN1d', **_norm),
    ),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=64, output_shape=[400, 400]),
    pts_backbone=dict(
        type='SECOND',
        in_channels=64,
        out_channels=[64, 128, 256],
        layer_nums=[3, 5, 5],
        layer_strides=[2, 2, 2],
        norm_cfg=dict(type='BN', **_norm),
    ),
    pts_neck=dict(
        type='FPN',
        in_channels=[64, 128, 256],
        out_channels=256,
        num_outs=3,
        norm_cfg=dict(type='BN', **_norm),
        act_cfg=dict(type='ReLU'),
    ),
    pts_bbox_head=dict(
        type='Anchor3DHead',
        num_classes=10,
        in_channels=256,
        feat_channels=256,
        dir_offset=-0.7854,
        anchor_generator=dict(
            type='AlignedAnchor3DRangeGenerator',
            ranges=[[-50, -50, -1.8, 50, 50, -1.8]],
            scales=[1, 2, 4],
            sizes=_sizes,
            custom_values=[0, 0],  # velocity
            rotations=[0, 1.57],
            reshape_out=True,
        ),
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder', code_size=9),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0),
        loss_dir=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(
        pts=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                iou_calculator=dict(type='BboxOverlapsNearest3D'),
                pos_iou_thr=0.6,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                ignore_iof_thr=-1,
            ),
            allowed_border=0,
            code_weight=[1.0] * 7 + [0.2] * 2,  # velocity counts less
            pos_weight=-1,
            debug=False,
        )
    ),
    test_cfg=dict(
        pts=dict(
            use_rotate_nms=True,
            nms_across_levels=False,
            nms_pre=1000,
            nms_thr=0.2,
            score_thr=0.05,
            min_bbox_size=0,
            max_num=500,
        )
    ),
)
_range = dict(point_cloud_range=point_cloud_range)
data = dict(train=_range, val=_range, test=_range)

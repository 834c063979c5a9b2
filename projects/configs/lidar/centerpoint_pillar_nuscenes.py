# CenterPoint with pillars of 0.2 m on nuScenes, ten classes in six tasks, ten sweeps.
_base_ = [
    '../_base_/models/centerpoint.py',
    '../_base_/datasets/nuscenes_lidar.py',
    '../_base_/schedules/cyclic_20e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
# Labels count through the tasks, so this order is the order of the classes.
_tasks = [
    ['car'],
    ['truck', 'construction_vehicle'],
    ['bus', 'trailer'],
    ['barrier'],
    ['motorcycle', 'bicycle'],
    ['pedestrian', 'traffic_cone'],
]
_voxel = [0.2, 0.2, 8]
_limits = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]  # of decoded centres
_cell = dict(out_size_factor=4, voxel_size=_voxel)  # pillars per cell of a heatmap

model = dict(
    pts_voxel_layer=dict(
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        max_num_points=20,
        max_voxels=(30000, 40000),
    ),
    pts_voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=5,
        feat_channels=[64],
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        legacy=False,
    ),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=64, output_shape=[512, 512]),
    pts_backbone=dict(
        in_channels=64,
        out_channels=[64, 128, 256],
        layer_nums=[3, 5, 5],
        layer_strides=[2, 2, 2],
    ),
    pts_neck=dict(
        in_channels=[64, 128, 256],
        out_channels=[128, 128, 128],
        upsample_strides=[0.5, 1, 2],
    ),
    pts_bbox_head=dict(
        in_channels=384,
        tasks=[dict(num_class=len(names), class_names=names) for names in _tasks],
        common_heads=dict(vel=(2, 2)),
        bbox_coder=dict(
            pc_range=point_cloud_range[:2],
            post_center_range=_limits,
            code_size=9,
            **_cell,
        ),
        loss_bbox=dict(loss_weight=0.25),
    ),
    train_cfg=dict(
        pts=dict(
            grid_size=[512, 512, 1],
            point_cloud_range=point_cloud_range,
            code_weights=[1.0] * 8 + [0.2] * 2,  # velocity counts less
            **_cell,
        )
    ),
    test_cfg=dict(
        pts=dict(
            pc_range=point_cloud_range[:2],
            post_center_limit_range=_limits,
            max_per_img=500,
            nms_thr=0.2,
            pre_max_size=1000,
            post_max_size=83,
            **_cell,
        )
    ),
)

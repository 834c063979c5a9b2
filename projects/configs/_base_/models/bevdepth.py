# BEVDepth with one key frame: ResNet, SECONDFPN to stride 16, 112 depth bins of 0.5 m, BEV of 128x128 cells of 0.8 m.
# frame='lidar' and whole cells suit training beside the other hosts of this project; ../../bevdepth/published.py says
# what published weights need.
from projects.configs._base_ import camera

_tasks = [
    ['car'],
    ['truck', 'construction_vehicle'],
    ['bus', 'trailer'],
    ['barrier'],
    ['motorcycle', 'bicycle'],
    ['pedestrian', 'traffic_cone'],
]
_limits = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]  # of decoded centres
_cell = dict(out_size_factor=4, voxel_size=[0.2, 0.2, 8])  # a heatmap has the BEV's cells of 0.8 m

model = dict(
    type='BEVDepth',
    num_frames=1,
    frame='lidar',
    depth_weight=3.0,
    backbone=dict(
        lift_splat=dict(
            pc_range=camera.RANGE,
            cell=0.8,
            depth_range=(2.0, 58.0, 0.5),
            image_size=(256, 704),
            stride=16,
            truncate=False,
        ),
        img_backbone=dict(
            type='ResNet',
            depth=50,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=0,
            norm_eval=False,
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
        ),
        img_neck=dict(
            type='SECONDFPN',
            in_channels=[256, 512, 1024, 2048],
            upsample_strides=[0.25, 0.5, 1, 2],
            out_channels=[128, 128, 128, 128],
        ),
        depth_net=dict(in_channels=512, mid_channels=512),
        out_channels=80,
    ),
    head=dict(
        type='BEVDepthHead',
        trunk=dict(
            type='ResNet',
            in_channels=80,
            depth=18,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(0, 1, 2),
            norm_eval=False,
            base_channels=160,
        ),
        neck=dict(
            type='SECONDFPN',
            in_channels=[80, 160, 320, 640],
            upsample_strides=[1, 2, 4, 8],
            out_channels=[64, 64, 64, 64],
        ),
        in_channels=256,
        share_conv_channel=64,
        tasks=[dict(num_class=len(names), class_names=names) for names in _tasks],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        bbox_coder=dict(
            type='CenterPointBBoxCoder',
            pc_range=camera.RANGE[:2],
            post_center_range=_limits,
            max_num=500,
            score_threshold=0.1,
            code_size=9,
            **_cell,
        ),
        loss_cls=dict(type='GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='L1Loss', reduction='mean', loss_weight=0.25),
        norm_bbox=True,
    ),
    train_cfg=dict(
        point_cloud_range=camera.RANGE,
        grid_size=[512, 512, 1],
        dense_reg=1,
        gaussian_overlap=0.1,
        max_objs=500,
        min_radius=2,
        code_weights=[1.0] * 8 + [0.5] * 2,
        **_cell,
    ),
    test_cfg=dict(
        post_center_limit_range=_limits,
        max_per_img=500,
        min_radius=[4, 12, 10, 1, 0.85, 0.175],
        score_threshold=0.1,
        nms_type='circle',
        pre_max_size=1000,
        post_max_size=83,
        nms_thr=0.2,
        **_cell,
    ),
)

# BEVDepth with one key frame: ResNet, SECONDFPN to stride 16, 112 depth bins of 0.5 m, BEV of 128x128 cells of 0.8 m.
# frame='lidar' and whole cells suit training beside the other hosts of this project; ../../bevdepth/bevdepth_r50_256x704.py
# says what published weights need.
from projects.configs._base_ import camera, center_heads

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
        **center_heads.head(in_channels=256),
    ),
    train_cfg=center_heads.train_cfg(velocity=0.5),
    test_cfg=center_heads.test_cfg(),
)

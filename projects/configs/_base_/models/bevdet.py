# BEVDepth of the BEVDet family, one key frame: ResNet, FPN at stride 16, 59 depth bins of 1 m, BEV of 128x128 cells of
# 0.8 m that takes in heights from -10 to 10 m.
from projects.configs._base_ import center_heads

model = dict(
    type='BEVDet',
    num_frames=1,
    frame='lidar',
    depth_weight=3.0,
    img_view_transformer=dict(
        lift_splat=dict(
            pc_range=[-51.2, -51.2, -10.0, 51.2, 51.2, 10.0],
            cell=0.8,
            depth_range=(1.0, 60.0, 1.0),
            image_size=(256, 704),
            stride=16,
            truncate=False,
        ),
        in_channels=512,
        context_channels=64,
        depth_channels=256,
    ),
    img_backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(2, 3),
        frozen_stages=-1,
        norm_eval=False,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    img_neck=dict(in_channels=[1024, 2048], out_channels=512),
    bev_channels=[128, 256, 512],
    pts_bbox_head=dict(type='CenterPointHead', **center_heads.head(in_channels=256)),
    train_cfg=center_heads.train_cfg(velocity=0.2),
    test_cfg=center_heads.test_cfg(),
)

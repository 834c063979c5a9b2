# LidarFormer (DistillBEV, ICCV 2023) for BEVFormer-small and -base: pillars of 0.256 m, ten sweeps, a BEV of 200x200 cells of
# 0.512 m, and the decoder of bevformer_base.py on it, down to the convention of its boxes, so that students may start from it.
_base_ = [
    '../_base_/datasets/nuscenes_lidar.py',
    '../_base_/schedules/cyclic_20e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
_grid = dict(voxel_size=[0.256, 0.256, 8], point_cloud_range=point_cloud_range)

model = dict(
    type='LidarFormer',
    pts_voxel_layer=dict(max_num_points=20, max_voxels=(30000, 40000), **_grid),
    pts_voxel_encoder=dict(type='PillarFeatureNet', in_channels=5, feat_channels=[64], legacy=False, **_grid),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=64, output_shape=[400, 400]),
    pts_backbone=dict(
        type='SECOND',
        in_channels=64,
        out_channels=[64, 128, 256],
        layer_nums=[3, 5, 5],
        layer_strides=[2, 2, 2],
    ),
    pts_neck=dict(
        type='SECONDFPN',
        in_channels=[64, 128, 256],
        out_channels=[128, 128, 128],
        upsample_strides=[1, 2, 4],
        use_conv_for_no_stride=True,
    ),
    pts_bbox_head=dict(
        type='BEVDecoderHead',
        num_classes=10,
        pc_range=point_cloud_range,
        bev_h=200,
        bev_w=200,
        num_query=900,
        box_convention='legacy',
        transformer=dict(type='PerceptionTransformer', embed_dims=256, decoder=dict(num_layers=6)),
        bbox_coder=dict(max_num=300, post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=0.25),
        assigner=dict(cls_weight=2.0, reg_weight=0.25),
    ),
)

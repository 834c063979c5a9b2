# The LiDAR teacher from whose head the pint-sized BEVFormer of near objects starts: pillars of 0.32 m on +-25.6 m, a keyframe
# and the one before it, a BEV of 40x40 cells of 1.28 m, and the decoder of bevformer_near_teacher.py.
from projects.configs._base_ import near_lidar

_base_ = ['../lidar/lidarformer_pillar_nuscenes.py']

point_cloud_range = near_lidar.RANGE
_grid = dict(voxel_size=[0.32, 0.32, 8], point_cloud_range=point_cloud_range)

model = dict(
    pts_voxel_layer=dict(max_voxels=(8000, 8000), **_grid),
    pts_voxel_encoder=dict(feat_channels=[32], norm_cfg=near_lidar.norm('BN1d'), **_grid),
    pts_middle_encoder=dict(in_channels=32, output_shape=[160, 160]),
    pts_backbone=dict(
        in_channels=32,
        out_channels=[32, 64],
        layer_nums=[2, 3],
        layer_strides=[2, 2],
        norm_cfg=near_lidar.norm('BN'),
    ),
    pts_neck=dict(
        in_channels=[32, 64],
        out_channels=[32, 32],
        upsample_strides=[0.5, 1],
        norm_cfg=near_lidar.norm('BN'),
    ),
    pts_bbox_head=dict(
        pc_range=point_cloud_range,
        bev_h=40,
        bev_w=40,
        num_query=150,
        box_convention='v1.0',
        embed_std=0.1,
        velocity_scale=2.5,
        proposals=dict(box_weight=4.0),
        code_weights=[0.5, 0.5, 1.0, 1.0, 0.5, 1.0, 4.0, 4.0, 0.5, 0.5],
        transformer=dict(
            embed_dims=64, decoder=dict(num_layers=3, num_heads=4, feedforward_dims=128, dropout=0.0)
        ),
        bbox_coder=dict(max_num=100, post_center_range=near_lidar.LIMITS),
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1.0, loss_weight=0.5),
        assigner=dict(_delete_=True),
    ),
)

train_pipeline, test_pipeline = near_lidar.pipelines()
data = near_lidar.data(train_pipeline, test_pipeline)

optimizer = dict(lr=4e-4)  # rises to 4e-3
runner = dict(max_epochs=4)
evaluation = dict(interval=4)
log_config = dict(interval=20)

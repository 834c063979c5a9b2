# The LiDAR teacher for near objects: CenterPoint with pillars of 0.4 m on +-25.6 m, cells of 0.8 m, a quarter of the
# widths, a keyframe and the one before it (the world has no sweeps between; tools/create_synthetic.py --reach 18 --pace 0.5).
from projects.configs._base_ import near_lidar

_base_ = ['../lidar/centerpoint_pillar_nuscenes.py']

point_cloud_range = near_lidar.RANGE
_voxel = [0.4, 0.4, 8]
_cell = dict(out_size_factor=2, voxel_size=_voxel)  # pillars per cell of a heatmap
_grid = dict(voxel_size=_voxel, point_cloud_range=point_cloud_range)

model = dict(
    pts_voxel_layer=dict(max_voxels=(8000, 8000), **_grid),
    pts_voxel_encoder=dict(feat_channels=[32], norm_cfg=near_lidar.norm('BN1d'), **_grid),
    pts_middle_encoder=dict(in_channels=32, output_shape=[128, 128]),
    pts_backbone=dict(
        in_channels=32,
        out_channels=[32, 64],
        layer_nums=[3, 3],
        layer_strides=[2, 2],
        norm_cfg=near_lidar.norm('BN'),
    ),
    pts_neck=dict(
        in_channels=[32, 64],
        out_channels=[32, 32],
        upsample_strides=[1, 2],
        norm_cfg=near_lidar.norm('BN'),
    ),
    pts_bbox_head=dict(
        in_channels=64,
        share_conv_channel=32,
        separate_head=dict(head_conv=32),
        bbox_coder=dict(pc_range=point_cloud_range[:2], post_center_range=near_lidar.LIMITS, **_cell),
    ),
    train_cfg=dict(
        pts=dict(grid_size=[128, 128, 1], point_cloud_range=point_cloud_range, max_objs=100, **_cell)
    ),
    test_cfg=dict(
        pts=dict(
            pc_range=point_cloud_range[:2],
            post_center_limit_range=near_lidar.LIMITS,
            max_per_img=100,
            **_cell,
        )
    ),
)

train_pipeline, test_pipeline = near_lidar.pipelines()
data = near_lidar.data(train_pipeline, test_pipeline)

optimizer = dict(lr=4e-4)  # rises to 4e-3
runner = dict(max_epochs=4)
evaluation = dict(interval=4)
log_config = dict(interval=20)

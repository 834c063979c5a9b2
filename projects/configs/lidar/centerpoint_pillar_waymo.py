# CP-Pillar, the teacher of SparseKD's pillar students, on a fifth of Waymo: pillars of 0.32 m, a heatmap cell each.
# Students have the same layers on coarser pillars: centerpoint_pillar_v{04,048,064}_waymo.py.
_base_ = ['./centerpoint_voxel_waymo.py']

point_cloud_range = [-74.88, -74.88, -2, 74.88, 74.88, 4]
_grid = dict(voxel_size=[0.32, 0.32, 6], point_cloud_range=point_cloud_range)
_cell = dict(out_size_factor=1, voxel_size=[0.32, 0.32, 6])

model = dict(
    pts_voxel_layer=dict(max_num_points=20, **_grid),
    pts_voxel_encoder=dict(
        _delete_=True, type='PillarFeatureNet', in_channels=5, feat_channels=[64], legacy=False, **_grid
    ),
    pts_middle_encoder=dict(
        _delete_=True, type='PointPillarsScatter', in_channels=64, output_shape=[468, 468]
    ),
    pts_backbone=dict(
        in_channels=64, out_channels=[64, 128, 256], layer_nums=[3, 5, 5], layer_strides=[1, 2, 2]
    ),
    pts_neck=dict(in_channels=[64, 128, 256], out_channels=[128, 128, 128], upsample_strides=[1, 2, 4]),
    pts_bbox_head=dict(in_channels=384, bbox_coder=dict(pc_range=[-74.88, -74.88], **_cell)),
    train_cfg=dict(pts=dict(grid_size=[468, 468, 1], point_cloud_range=point_cloud_range, **_cell)),
    test_cfg=dict(pts=dict(pc_range=[-74.88, -74.88], **_cell)),
)
data = dict(samples_per_gpu=2)

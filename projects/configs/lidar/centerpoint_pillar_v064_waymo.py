# CP-Pillar-v0.64, a student of SparseKD: CP-Pillar on pillars of 0.64 m, up to 50 points each.
_base_ = ['./centerpoint_pillar_waymo.py']

point_cloud_range = [-74.24, -74.24, -2, 74.24, 74.24, 4]
_grid = dict(voxel_size=[0.64, 0.64, 6], point_cloud_range=point_cloud_range)
_cell = dict(voxel_size=[0.64, 0.64, 6])

model = dict(
    pts_voxel_layer=dict(max_num_points=50, **_grid),
    pts_voxel_encoder=dict(**_grid),
    pts_middle_encoder=dict(output_shape=[232, 232]),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=[-74.24, -74.24], **_cell)),
    train_cfg=dict(pts=dict(grid_size=[232, 232, 1], point_cloud_range=point_cloud_range, **_cell)),
    test_cfg=dict(pts=dict(pc_range=[-74.24, -74.24], **_cell)),
)

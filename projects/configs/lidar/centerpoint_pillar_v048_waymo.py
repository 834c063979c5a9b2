# CP-Pillar-v0.48, a student of SparseKD: CP-Pillar on pillars of 0.48 m, up to 36 points each.
_base_ = ['./centerpoint_pillar_waymo.py']

point_cloud_range = [-74.88, -74.88, -2, 74.88, 74.88, 4]
_grid = dict(voxel_size=[0.48, 0.48, 6], point_cloud_range=point_cloud_range)
_cell = dict(voxel_size=[0.48, 0.48, 6])

model = dict(
    pts_voxel_layer=dict(max_num_points=36, **_grid),
    pts_voxel_encoder=dict(**_grid),
    pts_middle_encoder=dict(output_shape=[312, 312]),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=[-74.88, -74.88], **_cell)),
    train_cfg=dict(pts=dict(grid_size=[312, 312, 1], point_cloud_range=point_cloud_range, **_cell)),
    test_cfg=dict(pts=dict(pc_range=[-74.88, -74.88], **_cell)),
)

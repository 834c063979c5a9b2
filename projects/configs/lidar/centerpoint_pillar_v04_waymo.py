# CP-Pillar-v0.4, a student of SparseKD: CP-Pillar on pillars of 0.4 m, up to 28 points each.
_base_ = ['./centerpoint_pillar_waymo.py']

point_cloud_range = [-73.6, -73.6, -2, 73.6, 73.6, 4]
_grid = dict(voxel_size=[0.4, 0.4, 6], point_cloud_range=point_cloud_range)
_cell = dict(voxel_size=[0.4, 0.4, 6])

model = dict(
    pts_voxel_layer=dict(max_num_points=28, **_grid),
    pts_voxel_encoder=dict(**_grid),
    pts_middle_encoder=dict(output_shape=[368, 368]),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=[-73.6, -73.6], **_cell)),
    train_cfg=dict(pts=dict(grid_size=[368, 368, 1], point_cloud_range=point_cloud_range, **_cell)),
    test_cfg=dict(pts=dict(pc_range=[-73.6, -73.6], **_cell)),
)

# CenterPoint with voxels of 0.1 m on nuScenes: sparse 3D convolutions down to cells of 0.8 m.
_base_ = ['./centerpoint_pillar_nuscenes.py']

_voxel = [0.1, 0.1, 0.2]
_cell = dict(out_size_factor=8, voxel_size=_voxel)  # voxels per cell of a heatmap

model = dict(
    pts_voxel_layer=dict(voxel_size=_voxel, max_num_points=10, max_voxels=(90000, 120000)),
    pts_voxel_encoder=dict(_delete_=True, type='HardSimpleVFE', num_features=5),
    pts_middle_encoder=dict(
        _delete_=True,
        type='SparseEncoder',
        block_type='basicblock',
        in_channels=5,
        sparse_shape=[41, 1024, 1024],
        base_channels=16,
        output_channels=128,
        encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
        order=('conv', 'norm', 'act'),
    ),
    pts_backbone=dict(in_channels=256, out_channels=[128, 256], layer_nums=[5, 5], layer_strides=[1, 2]),
    pts_neck=dict(in_channels=[128, 256], out_channels=[256, 256], upsample_strides=[1, 2]),
    pts_bbox_head=dict(in_channels=512, bbox_coder=dict(**_cell)),
    train_cfg=dict(pts=dict(grid_size=[1024, 1024, 40], **_cell)),
    test_cfg=dict(pts=dict(**_cell)),
)

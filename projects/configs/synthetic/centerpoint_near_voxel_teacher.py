# The same teacher with voxels of 0.2 m and sparse convolutions down to cells of 0.8 m.
from projects.configs._base_ import near_lidar

_base_ = ['./centerpoint_near_teacher.py']

_voxel = [0.2, 0.2, 0.4]
_cell = dict(out_size_factor=4, voxel_size=_voxel)  # voxels per cell of a heatmap

model = dict(
    pts_voxel_layer=dict(voxel_size=_voxel, max_num_points=10, max_voxels=(16000, 16000)),
    pts_voxel_encoder=dict(_delete_=True, type='HardSimpleVFE', num_features=5),
    pts_middle_encoder=dict(
        _delete_=True,
        type='SparseEncoder',
        block_type='basicblock',
        in_channels=5,
        sparse_shape=[21, 256, 256],
        base_channels=8,
        output_channels=32,
        encoder_channels=((8, 8, 16), (16, 16, 32), (32, 32)),
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0)),
        order=('conv', 'norm', 'act'),
        norm_cfg=near_lidar.norm('BN1d'),
    ),
    pts_backbone=dict(in_channels=64, layer_strides=[1, 2]),
    pts_bbox_head=dict(bbox_coder=dict(**_cell)),
    train_cfg=dict(pts=dict(grid_size=[256, 256, 20], **_cell)),
    test_cfg=dict(pts=dict(**_cell)),
)

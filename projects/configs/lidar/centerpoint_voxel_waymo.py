# CP-Voxel, the teacher of SparseKD's voxel students, on a fifth of Waymo: 3D widths 16 to 128, 2D 128 and 256.
_base_ = [
    '../_base_/models/centerpoint.py',
    '../_base_/datasets/waymo.py',
    '../_base_/schedules/cyclic_80e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [-75.2, -75.2, -2, 75.2, 75.2, 4]
_voxel = [0.1, 0.1, 0.15]
_limits = [-80, -80, -10, 80, 80, 10]  # of decoded centres
_cell = dict(out_size_factor=8, voxel_size=_voxel)  # voxels per cell of a heatmap

model = dict(
    pts_voxel_layer=dict(
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        max_num_points=5,
        max_voxels=(150000, 150000),
    ),
    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features=5),
    pts_middle_encoder=dict(
        type='SparseEncoder',
        block_type='basicblock',
        in_channels=5,
        sparse_shape=[41, 1504, 1504],
        base_channels=16,
        output_channels=128,
        encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
        order=('conv', 'norm', 'act'),
    ),
    pts_backbone=dict(
        in_channels=256,
        out_channels=[128, 256],
        layer_nums=[5, 5],
        layer_strides=[1, 2],
    ),
    pts_neck=dict(
        in_channels=[128, 256],
        out_channels=[256, 256],
        upsample_strides=[1, 2],
    ),
    pts_bbox_head=dict(
        in_channels=512,
        tasks=[dict(num_class=3, class_names={{_base_.class_names}})],
        separate_head=dict(head_conv=64),
        bbox_coder=dict(
            pc_range=point_cloud_range[:2],
            post_center_range=_limits,
            code_size=7,
            **_cell,
        ),
        loss_bbox=dict(loss_weight=2.0),
    ),
    train_cfg=dict(
        pts=dict(
            grid_size=[1504, 1504, 40],
            point_cloud_range=point_cloud_range,
            code_weights=[1.0] * 8,
            **_cell,
        )
    ),
    test_cfg=dict(
        pts=dict(
            pc_range=point_cloud_range[:2],
            post_center_limit_range=_limits,
            nms_thr=0.7,
            pre_max_size=4096,
            post_max_size=500,
            **_cell,
        )
    ),
)

optimizer = dict(lr=3e-4)  # rises to 3e-3
optimizer_config = dict(grad_clip=dict(max_norm=10))
runner = dict(max_epochs=30)
evaluation = None  # Waymo's metric needs Waymo's own tools

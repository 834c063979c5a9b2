# CP-Voxel-XXS, the smallest student of SparseKD: half of CP-Voxel's 3D widths, a quarter of its 2D widths.
_base_ = ['./centerpoint_voxel_waymo.py']

model = dict(
    pts_middle_encoder=dict(
        base_channels=8,
        output_channels=64,
        encoder_channels=((8, 8, 16), (16, 16, 32), (32, 32, 64), (64, 64)),
    ),
    pts_backbone=dict(in_channels=128, out_channels=[32, 64]),
    pts_neck=dict(in_channels=[32, 64], out_channels=[64, 64]),
    pts_bbox_head=dict(in_channels=128, share_conv_channel=16, separate_head=dict(head_conv=16)),
)

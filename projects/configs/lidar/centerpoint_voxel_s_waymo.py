# CP-Voxel-S, a student of SparseKD: CP-Voxel with half of its 2D widths.
_base_ = ['./centerpoint_voxel_waymo.py']

model = dict(
    pts_backbone=dict(out_channels=[64, 128]),
    pts_neck=dict(in_channels=[64, 128], out_channels=[128, 128]),
    pts_bbox_head=dict(in_channels=256, share_conv_channel=32, separate_head=dict(head_conv=32)),
)

# SECOND at half of all widths: the 4x student of PointDistiller.
_base_ = ['./second_kitti.py']

model = dict(
    middle_encoder=dict(
        base_channels=8,
        output_channels=64,
        encoder_channels=((8,), (16, 16, 16), (32, 32, 32), (32, 32, 32)),
    ),
    backbone=dict(in_channels=128, out_channels=[64, 128]),
    neck=dict(in_channels=[64, 128], out_channels=[128, 128]),
    bbox_head=dict(in_channels=256, feat_channels=256),
)

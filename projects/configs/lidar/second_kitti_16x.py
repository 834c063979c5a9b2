# SECOND at a quarter of all widths: the 16x student of PointDistiller.
_base_ = ['./second_kitti.py']

model = dict(
    middle_encoder=dict(
        base_channels=4,
        output_channels=32,
        encoder_channels=((4,), (8, 8, 8), (16, 16, 16), (16, 16, 16)),
    ),
    backbone=dict(in_channels=64, out_channels=[32, 64]),
    neck=dict(in_channels=[32, 64], out_channels=[64, 64]),
    bbox_head=dict(in_channels=128, feat_channels=128),
)

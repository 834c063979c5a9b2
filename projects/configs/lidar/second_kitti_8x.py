# SECOND at 1/sqrt(8) of all widths: an eighth of the parameters.
_base_ = ['./second_kitti.py']

model = dict(
    middle_encoder=dict(
        base_channels=6,
        output_channels=45,
        encoder_channels=((6,), (11, 11, 11), (23, 23, 23), (23, 23, 23)),
    ),
    backbone=dict(in_channels=90, out_channels=[45, 91]),
    neck=dict(in_channels=[45, 91], out_channels=[91, 91]),
    bbox_head=dict(in_channels=182, feat_channels=182),
)

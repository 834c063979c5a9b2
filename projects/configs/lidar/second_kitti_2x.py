# SECOND at 1/sqrt(2) of all widths: half the parameters.
_base_ = ['./second_kitti.py']

model = dict(
    middle_encoder=dict(
        base_channels=11,
        output_channels=90,
        encoder_channels=((11,), (23, 23, 23), (45, 45, 45), (45, 45, 45)),
    ),
    backbone=dict(in_channels=180, out_channels=[91, 181]),
    neck=dict(in_channels=[91, 181], out_channels=[181, 181]),
    bbox_head=dict(in_channels=362, feat_channels=362),
)

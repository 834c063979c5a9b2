# PointPillars at 1/sqrt(8) of all widths: an eighth of the parameters.
_base_ = ['./pointpillars_kitti.py']

model = dict(
    voxel_encoder=dict(feat_channels=[23]),
    middle_encoder=dict(in_channels=23),
    backbone=dict(in_channels=23, out_channels=[23, 45, 91]),
    neck=dict(in_channels=[23, 45, 91], out_channels=[45, 45, 45]),
    bbox_head=dict(in_channels=135, feat_channels=135),
)

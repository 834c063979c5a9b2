# PointPillars at half of all widths: 1.3 M parameters, the 4x student of PointDistiller.
_base_ = ['./pointpillars_kitti.py']

model = dict(
    voxel_encoder=dict(feat_channels=[32]),
    middle_encoder=dict(in_channels=32),
    backbone=dict(in_channels=32, out_channels=[32, 64, 128]),
    neck=dict(in_channels=[32, 64, 128], out_channels=[64, 64, 64]),
    bbox_head=dict(in_channels=192, feat_channels=192),
)

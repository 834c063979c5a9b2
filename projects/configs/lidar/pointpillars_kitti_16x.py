# PointPillars at a quarter of all widths: 0.3 M parameters, the 16x student of PointDistiller.
_base_ = ['./pointpillars_kitti.py']

model = dict(
    voxel_encoder=dict(feat_channels=[16]),
    middle_encoder=dict(in_channels=16),
    backbone=dict(in_channels=16, out_channels=[16, 32, 64]),
    neck=dict(in_channels=[16, 32, 64], out_channels=[32, 32, 32]),
    bbox_head=dict(in_channels=96, feat_channels=96),
)

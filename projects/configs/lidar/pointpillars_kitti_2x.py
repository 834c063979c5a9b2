# PointPillars at 1/sqrt(2) of all widths: half the parameters.
_base_ = ['./pointpillars_kitti.py']

model = dict(
    voxel_encoder=dict(feat_channels=[45]),
    middle_encoder=dict(in_channels=45),
    backbone=dict(in_channels=45, out_channels=[45, 91, 181]),
    neck=dict(in_channels=[45, 91, 181], out_channels=[91, 91, 91]),
    bbox_head=dict(in_channels=273, feat_channels=273),
)

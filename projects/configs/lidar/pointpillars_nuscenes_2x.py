# PointPillars on nuScenes at 1/sqrt(2) of all widths: the 2x student of PointDistiller.
_base_ = ['./pointpillars_nuscenes.py']

model = dict(
    pts_voxel_encoder=dict(feat_channels=[45, 45]),
    pts_middle_encoder=dict(in_channels=45),
    pts_backbone=dict(in_channels=45, out_channels=[45, 91, 181]),
    pts_neck=dict(in_channels=[45, 91, 181], out_channels=181),
    pts_bbox_head=dict(in_channels=181, feat_channels=181),
)

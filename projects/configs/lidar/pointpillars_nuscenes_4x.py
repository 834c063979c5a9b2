# PointPillars on nuScenes at half of all widths: the 4x student of PointDistiller.
_base_ = ['./pointpillars_nuscenes.py']

model = dict(
    pts_voxel_encoder=dict(feat_channels=[32, 32]),
    pts_middle_encoder=dict(in_channels=32),
    pts_backbone=dict(in_channels=32, out_channels=[32, 64, 128]),
    pts_neck=dict(in_channels=[32, 64, 128], out_channels=128),
    pts_bbox_head=dict(in_channels=128, feat_channels=128),
)

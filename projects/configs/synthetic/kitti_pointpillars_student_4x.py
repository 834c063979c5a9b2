# The scaled-down student: half of all widths of kitti_pointpillars_teacher.py, a quarter of parameters and FLOPs.
_base_ = ['./kitti_pointpillars_teacher.py']

model = dict(
    voxel_encoder=dict(feat_channels=[16]),
    middle_encoder=dict(in_channels=16),
    backbone=dict(in_channels=16, out_channels=[24, 48]),
    neck=dict(in_channels=[24, 48], out_channels=[32, 32]),
    bbox_head=dict(in_channels=64, feat_channels=64),
)

# Shorter than the teacher's, so that there is something to learn from it.
runner = dict(max_epochs=6)
evaluation = dict(interval=6)

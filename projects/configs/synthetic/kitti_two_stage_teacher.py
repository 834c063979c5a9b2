# kitti_pointpillars_teacher.py with a second stage that also sees the raw points: a teacher for any other recipe.
from projects.configs._base_ import roi_heads

_base_ = ['./kitti_pointpillars_teacher.py']

model = dict(
    type='TwoStageVoxelNet',
    roi_head=roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48)),
)

# kitti_centerpoint_teacher.py with a second stage that also sees the raw points.
from projects.configs._base_ import roi_heads

_base_ = ['./kitti_centerpoint_teacher.py']

model = dict(
    type='TwoStageCenterPoint',
    roi_head=roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48)),
)

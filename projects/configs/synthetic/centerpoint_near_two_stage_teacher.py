# The LiDAR teacher for near objects with a second stage that also sees the raw points, their intensities and ages.
from projects.configs._base_ import roi_heads

_base_ = ['./centerpoint_near_teacher.py']

_roi_head = roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=32), extras=2)
model = dict(type='TwoStageCenterPoint', roi_head=_roi_head | dict(box_iou=0.35))

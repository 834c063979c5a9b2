# A LiDAR teacher for the pint-sized BEVDepth of near objects: points of boxes and depth within objects (TiG-BEV).
from projects.configs._base_.recipes import lidar_row, near_lidar

_base_ = ['./bevdepth_near_student.py']

distiller = dict(type='Distiller', teacher=near_lidar(), **lidar_row('keypoints'))

distiller['terms']['inner_depth'] = dict(type='InnerDepth', on='expected_depth', weight=0.1)

# A LiDAR teacher for the pint-sized BEVFormer of near objects: points of boxes.
from projects.configs._base_.recipes import lidar_row, near_lidar

_base_ = ['./bevformer_near_student.py']

distiller = dict(type='Distiller', teacher=near_lidar(), **lidar_row('keypoints'))

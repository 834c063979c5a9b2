# Two teachers for the pint-sized BEVFormer of near objects: FD3D from the camera, regions and boxes from the LiDAR.
from projects.configs._base_.recipes import lidar_row, near_lidar, near_teacher, two_teachers

_base_ = ['./distill_near_fd3d.py']

_row = lidar_row('regions')
_row['terms'].update(lidar_row('queries')['terms'])
distiller = two_teachers(near_teacher(), near_lidar(), _row)

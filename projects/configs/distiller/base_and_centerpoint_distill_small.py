# Two teachers for BEVFormer-small: FD3D from BEVFormer-base, regions and boxes from CenterPoint.
from projects.configs._base_.recipes import bevformer_base, centerpoint, lidar_row, two_teachers

_base_ = ['./base_distill_small_fd3d.py']

_row = lidar_row('regions')
_row['terms'].update(lidar_row('queries')['terms'])
distiller = two_teachers(bevformer_base(), centerpoint(), _row)

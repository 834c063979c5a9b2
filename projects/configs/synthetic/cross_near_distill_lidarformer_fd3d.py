# FD3D on the pint-sized BEVFormer with a LiDAR teacher: its head to start from, its queries to say where on BEV. It has no
# images to be imitated.
from projects.configs._base_.recipes import fd3d_on_bev, near_lidar

_base_ = ['./bevformer_near_student.py']

distiller = fd3d_on_bev() | dict(teacher=near_lidar('lidarformer_near_teacher'))

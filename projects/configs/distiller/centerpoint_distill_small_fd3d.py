# FD3D with a teacher of another sense on BEVFormer-small: the LiDAR teacher's boxes and ground truth say where, their
# agreement says when to trust it.
from projects.configs._base_.recipes import centerpoint, lidar_row

_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(type='Distiller', teacher=centerpoint(), **lidar_row('fd3d'))

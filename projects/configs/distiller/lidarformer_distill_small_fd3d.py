# FD3D on BEVFormer-small with LidarFormer: the student starts from its decoder, and its queries say where on BEV.
from projects.configs._base_.recipes import fd3d_on_bev, frozen

_base_ = ['../bevformer/bevformer_small.py']

distiller = fd3d_on_bev() | dict(
    teacher=frozen('projects/configs/lidar/lidarformer_pillar_nuscenes.py', view='native')
)

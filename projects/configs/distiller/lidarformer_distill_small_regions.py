# DistillBEV (ICCV 2023) as published for BEVFormer: the student starts from the head of a LidarFormer and learns to make the map
# that it reads, region by region; maps are compared as they are, since the head takes them so.
from projects.configs._base_.recipes import frozen, lidar_row

_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/lidar/lidarformer_pillar_nuscenes.py', view='native'),
    initialize=[dict(type='InheritHead')],
    **lidar_row('regions', regions=dict(heat='boxes', connector='resize')),
)

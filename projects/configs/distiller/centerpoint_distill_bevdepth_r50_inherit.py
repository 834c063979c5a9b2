# DistillBEV (ICCV 2023) on BEVDepth-R50 that starts from its teacher's centre heads, as published, and learns to make the map
# that they read; maps are compared as they are, since the heads take them so.
from projects.configs._base_.recipes import frozen, lidar_row

_base_ = ['../bevdepth/bevdepth_r50_256x704.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/lidar/centerpoint_pillar_256_nuscenes.py', view='native'),
    initialize=[dict(type='InheritHead')],
    **lidar_row('regions', regions=dict(attention='both', connector='resize')),
)

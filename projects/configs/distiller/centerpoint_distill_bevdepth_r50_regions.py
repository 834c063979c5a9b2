# A LiDAR teacher for BEVDepth-R50: CenterPoint with pillars (DistillBEV, ICCV 2023), attention of both maps. Published:
# 48.4 / 36.4 -> 50.6 / 39.0 (NDS / mAP) on another BEVDepth. The student's depth is learnt from the keyframe's points, the
# teacher sees ten sweeps, both in the same augmented world.
from projects.configs._base_.recipes import centerpoint, lidar_row

_base_ = ['../bevdepth/bevdepth_r50_256x704.py']

distiller = dict(
    type='Distiller', teacher=centerpoint(), **lidar_row('regions', regions=dict(attention='both'))
)

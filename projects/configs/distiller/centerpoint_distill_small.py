# A LiDAR teacher for BEVFormer-small: CenterPoint with pillars (DistillBEV, ICCV 2023). Published for their own pair:
# 43.4 / 32.3 -> 46.8 / 35.9 (NDS / mAP).
from projects.configs._base_.recipes import centerpoint, lidar_row

_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(type='Distiller', teacher=centerpoint(), **lidar_row('regions'))

# A LiDAR teacher for DETR3D, which has no BEV: CenterPoint's boxes for its queries (BEVDistill's sparse half).
from projects.configs._base_.recipes import centerpoint, lidar_row

_base_ = ['../detr3d/detr3d_r50.py']

distiller = dict(type='Distiller', teacher=centerpoint(), **lidar_row('queries'))

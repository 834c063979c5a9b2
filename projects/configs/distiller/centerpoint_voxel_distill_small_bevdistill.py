# A LiDAR teacher for BEVFormer-small: CenterPoint with voxels (BEVDistill, ICLR 2023), dense imitation on soft foreground
# and the teacher's boxes for the queries. Published for their own pair: 48.8 / 38.3 -> 51.5 / 40.7 (NDS / mAP).
from projects.configs._base_.recipes import centerpoint, lidar_row

_base_ = ['../bevformer/bevformer_small.py']

_row = lidar_row('dense')
_row['terms'].update(lidar_row('queries')['terms'])
distiller = dict(type='Distiller', teacher=centerpoint('voxel'), **_row)

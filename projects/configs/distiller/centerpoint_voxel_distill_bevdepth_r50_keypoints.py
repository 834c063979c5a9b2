# A LiDAR teacher for BEVDepth-R50: CenterPoint with voxels, points of boxes (UniDistill, CVPR 2023; TiG-BEV, 2022), and
# depth within objects, which needs no teacher.
from projects.configs._base_.recipes import centerpoint, lidar_row

_base_ = ['../bevdepth/bevdepth_r50_256x704.py']

distiller = dict(type='Distiller', teacher=centerpoint('voxel'), **lidar_row('keypoints'))
distiller['terms']['inner_depth'] = dict(type='InnerDepth', on='expected_depth', weight=0.1)

# A frozen Voxel R-CNN teaches SECOND, its own first stage but for the width of the 2D backbone. Not trained here.
from projects.configs._base_.recipes import frozen

_base_ = ['../second_kitti.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/lidar/voxel_rcnn_kitti.py'),
    terms=[dict(type='HeadToHead', on=dict(student='heads', teacher='second_stage'), name='heads')],
)

# Two teachers for the pint-sized BEVFormer of near objects: of the camera's the head to start from and nothing else, of the
# LiDAR's the points of boxes. Beside distill_near_fd3d.py, which starts from the same head, it says what LiDAR adds.
from projects.configs._base_.recipes import lidar_row, near_lidar, near_teacher

_base_ = ['./bevformer_near_student.py']

distiller = dict(
    type='Distiller',
    teacher=dict(camera=near_teacher(), lidar=near_lidar()),
    initialize=[dict(type='InheritHead', teacher='camera')],
    **lidar_row('keypoints', keypoints=dict(teacher='lidar'), relations=dict(teacher='lidar')),
)

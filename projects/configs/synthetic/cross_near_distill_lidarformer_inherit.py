# The pint-sized BEVFormer that starts from the head of a LiDAR teacher, and is taught nothing: what the head alone is worth.
from projects.configs._base_.recipes import near_lidar

_base_ = ['./bevformer_near_student.py']

distiller = dict(
    type='Distiller',
    teacher=near_lidar('lidarformer_near_teacher'),
    initialize=[dict(type='InheritHead')],
    terms=dict(),
)

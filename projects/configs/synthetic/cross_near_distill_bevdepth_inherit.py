# The pint-sized BEVDepth that starts from the centre heads of a LiDAR teacher, and is taught nothing: what they alone are worth.
from projects.configs._base_.recipes import near_lidar

_base_ = ['./bevdepth_near_student.py']

distiller = dict(
    type='Distiller',
    teacher=near_lidar('centerpoint_near_coarse_teacher'),
    initialize=[dict(type='InheritHead')],
    terms=dict(),
)

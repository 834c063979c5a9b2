# The inherited head alone: what the other recipes start from.
from projects.configs._base_.recipes import frozen

_base_ = ['./coco_gfl_student.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/synthetic/coco_gfl_teacher.py'),
    initialize=[dict(type='InheritHead')],
    terms=dict(),
)

# A frozen detector of two stages teaches the same detector of one: each refined box teaches the anchor that made it.
from projects.configs._base_.recipes import frozen

_base_ = ['./kitti_self_student.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/synthetic/kitti_two_stage_teacher.py'),
    terms=[dict(type='HeadToHead', on=dict(student='heads', teacher='second_stage'), name='heads')],
)

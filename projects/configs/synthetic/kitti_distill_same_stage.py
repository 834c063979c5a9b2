# What kitti_distill_cross_stage.py is compared with: the same student under a teacher of one stage, trained longer.
from projects.configs._base_.recipes import frozen

_base_ = ['./kitti_self_student.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/synthetic/kitti_pointpillars_teacher.py'),
    terms=[dict(type='DecoupledLogits', on='heads', name='heads')],
)

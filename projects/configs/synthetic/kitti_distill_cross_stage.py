# A frozen detector of two stages teaches the same detector of one.
from projects.configs._base_.recipes import cross_stage

_base_ = ['./kitti_self_student.py']

distiller = cross_stage('projects/configs/synthetic/kitti_two_stage_teacher.py')

# The pint-sized twin of bevdepth_r101_distill_r50_fd3d.py.
from projects.configs._base_.recipes import bevdepth_near_teacher, fd3d_bevdepth

_base_ = ['./bevdepth_near_student.py', '../_base_/distill/fd3d.py']

distiller = dict(teacher=bevdepth_near_teacher(), **fd3d_bevdepth(num_query=100, num_layers=2))

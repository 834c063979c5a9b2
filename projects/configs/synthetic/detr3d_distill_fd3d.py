# The pint-sized twin of detr3d_r101_distill_r50_fd3d.py. Background is imitated a little, as in distill_fd3d.py.
from projects.configs._base_.recipes import pint_detr3d

_base_ = ['./detr3d_student.py', '../_base_/distill/fd3d_pv.py']

distiller = dict(teacher=pint_detr3d(), terms=dict(pv_generation=dict(background=0.3)))

# FD3D ablation: an imperfect teacher: every instance and every query counts as far as the teacher agrees with ground truth.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./base_distill_small_fd3d.py']

distiller = fd3d_row('gate')

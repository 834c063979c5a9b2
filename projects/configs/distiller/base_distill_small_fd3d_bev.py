# FD3D ablation: the generative term on BEV alone.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./base_distill_small_fd3d.py']

distiller = fd3d_row('bev')

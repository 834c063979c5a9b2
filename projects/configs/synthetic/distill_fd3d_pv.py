# FD3D ablation: the generative term on image features alone.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./distill_fd3d.py']

distiller = fd3d_row('pv')

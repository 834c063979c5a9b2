# FD3D ablation on the pair for near objects: as many terms, none of which looks anywhere in particular.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./distill_near_fd3d.py']

distiller = fd3d_row('unfocused')

# FD3D ablation: what the figure of the paper draws. Connectors learn, features are generated altogether, and the focal
# term compares the generated one.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./base_distill_small_fd3d.py']

distiller = fd3d_row('generated')

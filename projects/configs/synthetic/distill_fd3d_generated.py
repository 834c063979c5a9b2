# FD3D ablation: what the figure of the paper draws. Connectors learn, features are generated altogether, and the focal
# term compares the generated one.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./distill_fd3d.py']

distiller = fd3d_row('generated', pv_generation=dict(connector='resize_conv'))

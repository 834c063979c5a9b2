# FD3D ablation: areas of the boxes of the queries that match ground truth.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./distill_fd3d.py']

distiller = fd3d_row('positives')

# FD3D (CVPR 2023): BEVFormer-base teaches FocalDistiller's small (published: 46.26 -> 48.73 NDS, 34.56 -> 37.64 mAP).
# The files base_distill_small_fd3d_*.py change one choice each.
from projects.configs._base_.recipes import bevformer_base

_base_ = ['../bevformer/bevformer_small.py', '../_base_/distill/fd3d.py']

distiller = dict(teacher=bevformer_base())

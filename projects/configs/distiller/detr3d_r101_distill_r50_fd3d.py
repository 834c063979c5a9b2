# FD3D on DETR3D, the paper's pair: R101-DCN teaches R50 at the same image size (NDS 35.78 -> 38.95). Image features of both
# have equal sizes; the teacher sees its own normalisation.
from projects.configs._base_.recipes import detr3d_r101

_base_ = ['../detr3d/detr3d_r50.py', '../_base_/distill/fd3d_pv.py']

distiller = dict(teacher=detr3d_r101())

# FD3D ablation: a distillation head of its own, trained along on ground truth, instead of the teacher's.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(head=dict(init='scratch'))

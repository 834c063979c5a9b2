# FD3D ablation: the focal term compares the generated feature, as the figure of the paper draws it.
_base_ = ['./distill_fd3d.py']

distiller = dict(terms=dict(bev_focal=dict(of='bev_generation')))

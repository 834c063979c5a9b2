# FD3D ablation: the focal term alone.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(weight=0.0),
        bev_generation=dict(weight=0.0),
    ),
)

# FD3D ablation: the generative term on image features alone.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(
    terms=dict(
        bev_generation=dict(weight=0.0),
        bev_focal=dict(weight=0.0),
    ),
)

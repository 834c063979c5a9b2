# FD3D ablation: areas of ground-truth boxes alone.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(region=dict(source='gt')),
        bev_generation=dict(region=dict(source='gt')),
    ),
)

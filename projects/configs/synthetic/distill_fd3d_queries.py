# FD3D ablation: areas of the best queries' boxes alone, no ground truth.
_base_ = ['./distill_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(region=dict(source='queries')),
        bev_generation=dict(region=dict(source='queries')),
    ),
)

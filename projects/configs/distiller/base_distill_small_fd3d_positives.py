# FD3D ablation: areas of the boxes of the queries that match ground truth.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(region=dict(source='positives')),
        bev_generation=dict(region=dict(source='positives')),
    ),
)

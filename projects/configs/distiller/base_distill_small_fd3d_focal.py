# FD3D ablation: the focal term alone, on what the connector makes of the student's BEV feature.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(weight=0.0),
        bev_generation=dict(weight=0.0),
        bev_focal=dict(of=None, connector='deconv'),
    ),
)

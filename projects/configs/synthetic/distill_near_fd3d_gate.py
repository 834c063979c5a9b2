# FD3D ablation: an imperfect teacher: every instance and every query counts as far as the teacher agrees with ground truth.
_base_ = ['./distill_near_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(region=dict(gate=2.0)),
        bev_generation=dict(region=dict(gate=2.0)),
        bev_focal=dict(gate=2.0),
    ),
)

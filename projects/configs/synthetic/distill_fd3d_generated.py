# FD3D ablation: what the figure of the paper draws. Connectors learn, features are generated altogether, and the focal
# term compares the generated one.
_base_ = ['./distill_fd3d.py']

distiller = dict(
    terms=dict(
        pv_generation=dict(connector='resize_conv', residual=False),
        bev_generation=dict(connector='deconv', residual=False),
        bev_focal=dict(generated_by='bev_generation'),
    ),
)

# FD3D together with the heatmap recipe's BEV term.
_base_ = ['./distill_fd3d.py']

distiller = dict(
    terms=dict(
        bev_l2=dict(
            type='FeatureL2',
            on='bev',
            connector='deconv',
            region=dict(type='GTHeatmap', min_overlap=0.1),
            weight=1.0,
        ),
    ),
)

# FD3D together with the heatmap recipe's BEV term.
_base_ = ['./base_distill_small_fd3d.py']

distiller = dict(
    terms=dict(
        bev_l2=dict(
            type='FeatureL2',
            on='bev',
            connector='deconv',
            region=dict(type='GTHeatmap', min_overlap=0.1),
            weight=12.8,
        ),
    ),
)

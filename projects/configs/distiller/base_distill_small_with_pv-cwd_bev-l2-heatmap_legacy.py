# HeatmapDistiller with the losses, heatmap grid, weights and teacher's view exactly as published, for comparison.
# Not reproduced: the published teacher ran in training mode (GridMask, dropout) on the frame it taught.
_base_ = ['./base_distill_small_with_pv-cwd_bev-l2-heatmap.py']

distiller = dict(
    teacher=dict(view='upsampled'),
    initialize=[dict(type='InheritHead', resize=False)],
    terms=[
        dict(type='ChannelWiseDivergence', name='pv_cwd', on='pv', tau=2.0, legacy=True, weight=0.25),
        dict(
            type='FeatureL2',
            name='bev_l2',
            on='bev',
            connector='deconv',
            region=dict(type='GTHeatmap', min_overlap=0.1, legacy=True),
            legacy=True,
            weight=0.1,
        ),
    ],
)

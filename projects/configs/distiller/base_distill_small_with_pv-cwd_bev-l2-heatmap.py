# HeatmapDistiller: BEVFormer-base teaches FocalDistiller's small (published: 46.83 -> 48.98 NDS, 35.09 -> 37.27 mAP).
# The published recipe with its defects mended: the teacher stays in eval mode and sees its own resolution, CWD is a
# divergence, the heatmap is drawn at the resolution of the map, and the L2 is a mean over channels.
# The losses and views exactly as published: base_distill_small_with_pv-cwd_bev-l2-heatmap_legacy.py.
_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/bevformer/bevformer_base.py',
        checkpoint='ckpts/bevformer_r101_dcn_24ep.pth',
        view='native',
    ),
    initialize=[dict(type='InheritHead')],
    terms=[
        # Strides 4..32 at half resolution meet strides 8..64 at full resolution: equal sizes, no connector.
        dict(type='ChannelWiseDivergence', name='pv_cwd', on='pv', tau=2.0, weight=0.25),
        # 12.8 = 0.1 (published) * 256 channels (sum -> mean) / 2 (a Gaussian holds twice the mass of its square).
        dict(
            type='FeatureL2',
            name='bev_l2',
            on='bev',
            connector='deconv',
            region=dict(type='GTHeatmap', min_overlap=0.1),
            weight=12.8,
        ),
    ],
)

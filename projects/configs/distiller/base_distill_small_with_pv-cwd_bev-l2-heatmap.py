# HeatmapDistiller: BEVFormer-base teaches FocalDistiller's small (published: 46.83 -> 48.98 NDS, 35.09 -> 37.27 mAP).
# The published recipe with its defects mended: the teacher stays in eval mode and sees its own resolution, CWD is a
# divergence, the heatmap is drawn at the resolution of the map, and the L2 is a mean over channels.
# The losses and views exactly as published: base_distill_small_with_pv-cwd_bev-l2-heatmap_legacy.py.
from projects.configs._base_.recipes import bevformer_base, heatmap_l2

_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(
    type='Distiller',
    teacher=bevformer_base(),
    initialize=[dict(type='InheritHead')],
    terms=[
        # Strides 4..32 at half resolution meet strides 8..64 at full resolution: equal sizes, no connector.
        dict(type='ChannelWiseDivergence', name='pv_cwd', on='pv', tau=2.0, weight=0.25),
        # 12.8 = 0.1 (published) * 256 channels (sum -> mean) / 2 (a Gaussian holds twice the mass of its square).
        dict(name='bev_l2', **heatmap_l2(weight=12.8)),
    ],
)

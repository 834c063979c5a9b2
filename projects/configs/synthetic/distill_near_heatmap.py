# distill_heatmap.py on the pair for near objects, whose headings and velocities learn.
from projects.configs._base_.recipes import near_teacher

_base_ = ['./bevformer_near_student.py']

distiller = dict(
    type='Distiller',
    teacher=near_teacher(),
    initialize=[dict(type='InheritHead')],
    terms=[
        dict(
            type='ChannelWiseDivergence',
            name='pv_cwd',
            on='pv',
            connector='resize_conv',
            tau=2.0,
            weight=0.25,
        ),
        dict(
            type='FeatureL2',
            name='bev_l2',
            on='bev',
            connector='deconv',
            region=dict(type='GTHeatmap', min_overlap=0.1),
            weight=1.0,
        ),
    ],
)

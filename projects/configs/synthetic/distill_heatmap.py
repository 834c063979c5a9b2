# The pint-sized twin of base_distill_small_with_pv-cwd_bev-l2-heatmap.py.
_base_ = ['./bevformer_student.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/synthetic/bevformer_teacher.py',
        checkpoint='work_dirs/demo/teacher/latest.pth',
        view='native',
    ),
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

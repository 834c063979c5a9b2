# The pint-sized twin of base_distill_small_fd3d.py.
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
    head=dict(init='teacher'),
    terms=[
        dict(
            type='MaskedGeneration',
            name='pv_generation',
            on='pv',
            connector='resize_conv',
            region=dict(type='PVArea', source='both'),
            relative=True,
            weight=0.5,
        ),
        dict(
            type='MaskedGeneration',
            name='bev_generation',
            on='bev',
            connector='deconv',
            region=dict(type='BEVFootprint', source='both'),
            weight=1.0,
        ),
        dict(type='FocalPositions', name='bev_focal', on='bev', of='bev_generation', weight=1.0),
    ],
)

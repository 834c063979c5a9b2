# The pint-sized twin of base_distill_small_fd3d.py. Its levels of image features differ in size, hence the connector.
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
    terms=dict(
        pv_generation=dict(
            type='MaskedGeneration',
            on='pv',
            connector='resize_conv',
            region=dict(type='PVArea', source='both'),
            relative=True,
            weight=0.5,
        ),
        bev_generation=dict(
            type='MaskedGeneration',
            on='bev',
            connector='deconv',
            region=dict(type='BEVFootprint', source='both'),
            weight=4.0,
        ),
        bev_focal=dict(type='FocalPositions', on='bev', of='bev_generation', weight=4.0),
    ),
)

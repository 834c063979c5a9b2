# FD3D (CVPR 2023) for hosts whose queries look at the images themselves, such as DETR3D; recipes add a teacher. There is no
# BEV feature: areas are projected boxes on image features, fine-grained positions those where the teacher's queries sample
# them, level by level and decoder layer by decoder layer. The switches are those of fd3d.py.
distiller = dict(
    type='Distiller',
    initialize=[dict(type='InheritHead')],
    head=dict(init='teacher'),  # "Distillation Head"
    terms=dict(
        pv_generation=dict(  # "Generative Distillation"
            type='MaskedGeneration',
            on='pv',
            connector='resize',
            region=dict(type='PVArea', source='both'),
            ratio=0.3,
            relative=True,
            residual=True,
            weight=3.0,
        ),
        pv_focal=dict(  # "Focal Distillation"
            type='FocalPositions', on='pv', connector='resize', compare='values', weight=4.0
        ),
    ),
)

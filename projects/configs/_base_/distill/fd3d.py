# FD3D (CVPR 2023) as recipes inherit it: they add a teacher. The method was described but never released; whatever the
# figure and the abstract leave open is a switch. The weights are the best of a few tries on a synthetic world.
distiller = dict(
    type='Distiller',
    initialize=[dict(type='InheritHead')],
    head=dict(init='teacher'),  # "Distillation Head" with "Aligned BEV Queries"
    terms=dict(
        pv_generation=dict(  # "Generative Distillation" on the perspective view
            type='MaskedGeneration',
            on='pv',
            region=dict(type='PVArea', source='both'),
            ratio=0.3,
            relative=True,
            weight=3.0,
        ),
        bev_generation=dict(  # "Generative and Focal Distillation" on BEV
            type='MaskedGeneration',
            on='bev',
            connector='deconv',
            region=dict(type='BEVFootprint', source='both'),
            weight=4.0,
        ),
        bev_focal=dict(  # its "focal" half; *_generated.py compares the generated feature, as the figure draws it
            type='FocalPositions', on='bev', connector='resize', compare='values', weight=4.0
        ),
    ),
)

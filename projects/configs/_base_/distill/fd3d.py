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
            relative=True,
            weight=0.5,
        ),
        bev_generation=dict(  # "Generative and Focal Distillation" on BEV
            type='MaskedGeneration',
            on='bev',
            connector='deconv',
            region=dict(type='BEVFootprint', source='both'),
            weight=4.0,
        ),
        bev_focal=dict(type='FocalPositions', on='bev', of='bev_generation', weight=4.0),
    ),
)

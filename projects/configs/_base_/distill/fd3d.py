# FD3D (CVPR 2023) as recipes inherit it: they add a teacher. The method was described but never released; whatever the
# figure and the abstract leave open is a switch. The weights are the best of a few tries on a synthetic world.
# Head and encoder are inherited and read the student's own features, so those are compared, with nothing learned between
# (connector 'resize', residual, generated_by=None); *_generated.py is what the figure draws.
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
            residual=True,
            weight=3.0,
        ),
        bev_generation=dict(  # "Generative and Focal Distillation" on BEV
            type='MaskedGeneration',
            on='bev',
            connector='resize',
            region=dict(type='BEVFootprint', source='both'),
            residual=True,
            weight=4.0,
        ),
        bev_focal=dict(  # its "focal" half
            type='FocalPositions', on='bev', connector='resize', compare='values', weight=4.0
        ),
    ),
)

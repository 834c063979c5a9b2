# What FD3D's parts are for a detector of 2D boxes: there are no queries, so areas are the boxes of the ground truth and those
# that the teacher is sure of. Head and, through it, the meaning of the features are inherited.
distiller = dict(
    type='Distiller',
    initialize=[dict(type='InheritHead')],
    terms=dict(
        pv_generation=dict(  # "Generative Distillation" on the perspective view
            type='MaskedGeneration',
            on='pv',
            region=dict(type='BoxArea', source='both'),
            ratio=0.3,
            background=0.3,
            relative=True,
            residual=True,
            weight=1.0,
        ),
        pv_focal=dict(  # and its "focal" half: every object counts alike, most where the teacher looks
            type='FeatureL2', on='pv', region=dict(type='BoxArea', balance=True, attention=0.5), weight=1.0
        ),
    ),
)

# FGD's weighting of foreground and background, the twin of coco/distill/retinanet_r101_r50_fgd.py.
_base_ = ['./coco_distill_inherit.py']

distiller = dict(
    terms=dict(
        foreground=dict(
            type='FeatureL2', on='pv', region=dict(type='BoxArea', balance=True, attention=0.5), weight=2.0
        ),
        background=dict(
            type='FeatureL2', on='pv', region=dict(type='BoxArea', outside=True, attention=0.5), weight=1.0
        ),
    ),
)

# Imitation whatever the scale of image features: PKD (NeurIPS 2022), with the inherited head.
_base_ = ['./coco_distill_inherit.py']

distiller = dict(
    terms=dict(pkd=dict(type='PearsonCorrelation', on='pv', over_batch=True, weight=6.0)),
)

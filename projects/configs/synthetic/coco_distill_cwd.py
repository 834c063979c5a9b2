# Plain imitation of image features: CWD (ICCV 2021), with the inherited head.
_base_ = ['./coco_distill_inherit.py']

distiller = dict(
    terms=dict(cwd=dict(type='ChannelWiseDivergence', on='pv', tau=1.0, weight=2.0)),
)

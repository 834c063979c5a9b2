# Plain imitation of the pint-sized BEVDepth's BEV map, everywhere alike.
from projects.configs._base_.recipes import bevdepth_near_teacher

_base_ = ['./bevdepth_near_student.py']

distiller = dict(
    type='Distiller',
    teacher=bevdepth_near_teacher(),
    terms=dict(bev_l2=dict(type='FeatureL2', on='bev', connector='resize_conv', weight=1.0)),
)

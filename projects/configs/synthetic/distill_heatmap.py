# The scaled-down twin of base_distill_small_with_pv-cwd_bev-l2-heatmap.py.
from projects.configs._base_.recipes import heatmap_l2, pint_teacher

_base_ = ['./bevformer_student.py']

_cwd = dict(type='ChannelWiseDivergence', on='pv', connector='resize_conv', tau=2.0, weight=0.25)
distiller = dict(
    type='Distiller',
    teacher=pint_teacher(),
    initialize=[dict(type='InheritHead')],
    terms=[dict(name='pv_cwd', **_cwd), dict(name='bev_l2', **heatmap_l2(weight=1.0))],
)

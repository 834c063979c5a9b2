# Plain imitation of image features, for comparison: channel-wise distillation on every level.
from projects.configs._base_.recipes import pint_detr3d

_base_ = ['./detr3d_student.py']

distiller = dict(
    type='Distiller',
    teacher=pint_detr3d(),
    terms=[dict(type='ChannelWiseDivergence', name='pv_cwd', on='pv', connector='resize', weight=1.0)],
)

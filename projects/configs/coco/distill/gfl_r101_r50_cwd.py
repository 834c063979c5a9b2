# CWD (ICCV 2021) on the class scores of GFL. Published: 40.2 -> 41.9 box AP.
from projects.configs._base_.recipes import frozen

_base_ = ['../gfl_r50.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/coco/gfl_r101.py', 'ckpts/gfl_r101_fpn_mstrain_2x_coco.pth'),
    terms=[dict(type='ChannelWiseDivergence', name='cwd', on='logits', tau=1.0, weight=5.0)],
)

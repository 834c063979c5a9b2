# CWD (ICCV 2021) on the image features of Faster R-CNN.
from projects.configs._base_.recipes import frozen

_base_ = ['../faster_rcnn_r50.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/coco/faster_rcnn_r101.py', 'ckpts/faster_rcnn_r101_fpn_2x_coco.pth'),
    terms=[dict(type='ChannelWiseDivergence', name='cwd', on='pv', tau=1.0, weight=2.0)],
)

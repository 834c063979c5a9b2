# FD3D's areas and generation on RetinaNet. The weights are not tuned, neither here nor on a synthetic world.
from projects.configs._base_.recipes import frozen

_base_ = ['../retinanet_r50.py', '../../_base_/distill/mmdet2d_fd3d.py']

distiller = dict(
    teacher=frozen('projects/configs/coco/retinanet_r101.py', 'ckpts/retinanet_r101_fpn_2x_coco.pth')
)

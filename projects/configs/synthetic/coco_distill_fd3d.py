# FD3D's areas and generation, the twin of coco/distill/retinanet_r101_r50_fd3d.py.
from projects.configs._base_.recipes import frozen

_base_ = ['./coco_gfl_student.py', '../_base_/distill/mmdet2d_fd3d.py']

distiller = dict(teacher=frozen('projects/configs/synthetic/coco_gfl_teacher.py'))

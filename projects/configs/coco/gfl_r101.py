# GFL-R101, the teacher (published, with images of several sizes: 44.7 box AP). Published weights:
# gfl_r101_fpn_mstrain_2x_coco (mmdet).
from projects.configs._base_ import coco

_base_ = ['../_base_/datasets/coco.py', '../_base_/schedules/sgd_12e.py', '../_base_/default_runtime.py']

model = coco.gfl(coco.resnet(101), [256, 512, 1024, 2048], classes=80)
optimizer = dict(lr=0.01)
lr_config = dict(step=[16, 22])
runner = dict(max_epochs=24)

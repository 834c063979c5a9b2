# Faster R-CNN-R101, the teacher (published: 39.8 box AP). Published weights: faster_rcnn_r101_fpn_2x_coco (mmdet).
from projects.configs._base_ import coco

_base_ = ['../_base_/datasets/coco.py', '../_base_/schedules/sgd_12e.py', '../_base_/default_runtime.py']

model = coco.faster_rcnn(coco.resnet(101), [256, 512, 1024, 2048], classes=80)
lr_config = dict(step=[16, 22])
runner = dict(max_epochs=24)

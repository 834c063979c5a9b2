# Faster R-CNN-R50, the student (published: 37.4 box AP). Published weights: faster_rcnn_r50_fpn_1x_coco (mmdet).
from projects.configs._base_ import coco

_base_ = ['../_base_/datasets/coco.py', '../_base_/schedules/sgd_12e.py', '../_base_/default_runtime.py']

model = coco.faster_rcnn(coco.resnet(50), [256, 512, 1024, 2048], classes=80)

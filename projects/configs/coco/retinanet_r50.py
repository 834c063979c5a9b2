# RetinaNet-R50, the student (published: 36.5 box AP). Published weights: retinanet_r50_fpn_1x_coco (mmdet).
from projects.configs._base_ import coco

_base_ = ['../_base_/datasets/coco.py', '../_base_/schedules/sgd_12e.py', '../_base_/default_runtime.py']

model = coco.retinanet(coco.resnet(50), [256, 512, 1024, 2048], classes=80)
optimizer = dict(lr=0.01)

# FocalDistiller's small, the student: R101-DCN, 450x800 images padded to 464x800, four levels from C2,
# BEV 100x100, queue of 4 (NDS 46.83, mAP 35.09).
# Published weights: bevformer_small_ep24.pth (FocalDistiller) load strictly. The file of the same purpose in
# BEVFormer, bevformer_small_epoch_24.pth, is another model: it fits bevformer_small_c5_150x150.py.
from projects.configs._base_ import camera

_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(out_indices=(0, 1, 2, 3), frozen_stages=0),
    img_neck=dict(in_channels=[256, 512, 1024, 2048]),
    pts_bbox_head=dict(
        bev_h=100,
        bev_w=100,
        transformer=dict(encoder=dict(num_layers=3), legacy=['shift', 'nearest', 'can_bus']),
    ),
)

# 464 rows, half of the teacher's 928, so that the pyramids of both have equal sizes
image_view = camera.caffe_view(scale=0.5, pad_divisor=16)
train_pipeline, test_pipeline = camera.pipelines(image_view)
data = camera.data(train_pipeline, test_pipeline)

# The small of the BEVFormer paper: R101-DCN, 720x1280 images padded to 736x1280, C5 only, BEV 150x150, queue of 3
# (NDS 47.9, mAP 37.0).
# Published weights: bevformer_small_epoch_24.pth (BEVFormer) load strictly.
from projects.configs._base_ import camera

_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(out_indices=(3,)),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=150,
        bev_w=150,
        transformer=dict(encoder=dict(num_layers=3, num_levels=1)),
    ),
)

image_view = camera.caffe_view(scale=0.8)
train_pipeline, test_pipeline = camera.pipelines(image_view)
data = camera.data(train_pipeline, test_pipeline, queue_length=3)

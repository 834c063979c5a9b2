# BEVFormer-tiny: R50, 450x800 images padded to 480x800, C5 only, BEV 50x50, queue of 3 (NDS 35.4, mAP 25.2).
# Published weights: bevformer_tiny_epoch_24.pth (BEVFormer) load strictly. The tiny of the FD3D paper (BEV 100x100)
# is another model.
from projects.configs._base_ import camera

_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=camera.torchvision_resnet(50, out_indices=(3,)),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=50,
        bev_w=50,
        transformer=dict(encoder=dict(num_layers=3, num_levels=1)),
    ),
)

image_view = camera.torchvision_view(scale=0.5)
train_pipeline, test_pipeline = camera.pipelines(image_view)
data = camera.data(train_pipeline, test_pipeline, queue_length=3)
load_from = None

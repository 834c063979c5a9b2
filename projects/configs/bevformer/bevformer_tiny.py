# BEVFormer-tiny: R50, 450x800 images padded to 480x800, C5 only, BEV 50x50, queue of 3 (NDS 35.4, mAP 25.2).
# Published weights: bevformer_tiny_epoch_24.pth (BEVFormer) load strictly. The tiny of the FD3D paper (BEV 100x100)
# is another model.
_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(3,),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=50,
        bev_w=50,
        transformer=dict(encoder=dict(num_layers=3, num_levels=1)),
    ),
)

image_view = dict(
    type='ImageView', scale=0.5, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
train_pipeline = [
    dict(type='LoadMultiViewImages'),
    dict(type='PhotoMetricDistortionMultiView'),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True, with_attr_label=False),
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    image_view,
    dict(type='FormatFrame'),
]
test_pipeline = [dict(type='LoadMultiViewImages'), image_view, dict(type='FormatFrame')]
data = dict(
    train=dict(pipeline=train_pipeline, queue_length=3),
    val=dict(pipeline=test_pipeline),
    test=dict(pipeline=test_pipeline),
)
load_from = None

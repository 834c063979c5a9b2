# Base* of the FD3D paper: BEVFormer-base with a plain R101 (no DCN) and torchvision's normalisation, so that teacher and
# R50 student see equally normalised images (NDS 47.37, mAP 36.44). Weights were never published: train it first.
_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=101,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
)

image_view = dict(
    type='ImageView', scale=1.0, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
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
    train=dict(pipeline=train_pipeline),
    val=dict(pipeline=test_pipeline),
    test=dict(pipeline=test_pipeline),
)
load_from = None

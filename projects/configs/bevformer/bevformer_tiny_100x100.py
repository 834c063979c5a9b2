# Tiny of the FD3D paper: R50, 450x800 images padded to 464x800, four levels from C2, BEV 100x100, queue of 4 (NDS 39.02,
# mAP 26.87). The official tiny has BEV 50x50 and C5 alone: bevformer_tiny.py. The paper's text is not public; levels and
# encoder depth are those of FocalDistiller's small, which its GFLOPs confirm.
_base_ = ['./bevformer_small.py']

model = dict(
    img_backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
)

image_view = dict(
    type='ImageView',
    scale=0.5,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    pad_divisor=16,
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

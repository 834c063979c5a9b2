# FocalDistiller's small, the student: R101-DCN, 450x800 images padded to 464x800, four levels from C2,
# BEV 100x100, queue of 4 (NDS 46.83, mAP 35.09).
# Published weights: bevformer_small_ep24.pth (FocalDistiller) load strictly. The file of the same purpose in
# BEVFormer, bevformer_small_epoch_24.pth, is another model: it fits bevformer_small_c5_150x150.py.
_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(out_indices=(0, 1, 2, 3), frozen_stages=0),
    img_neck=dict(in_channels=[256, 512, 1024, 2048]),
    pts_bbox_head=dict(
        bev_h=100,
        bev_w=100,
        transformer=dict(encoder=dict(num_layers=3), legacy=['shift', 'nearest']),
    ),
)

image_view = dict(
    type='ImageView',
    scale=0.5,
    mean=[103.530, 116.280, 123.675],
    std=[1.0, 1.0, 1.0],
    to_rgb=False,
    pad_divisor=16,  # 464 rows, half of the teacher's 928, so that the pyramids of both have equal sizes
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

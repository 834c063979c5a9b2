# The small of the BEVFormer paper: R101-DCN, 720x1280 images padded to 736x1280, C5 only, BEV 150x150, queue of 3
# (NDS 47.9, mAP 37.0).
# Published weights: bevformer_small_epoch_24.pth (BEVFormer) load strictly.
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

image_view = dict(
    type='ImageView', scale=0.8, mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False
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

# The student of bevformer_near_teacher.py: half its resolution in the images (160x90 padded to 160x96) and in BEV
# (20x20), half its encoder, and a small backbone of its own that starts from scratch.
_base_ = ['./bevformer_near_teacher.py']

model = dict(
    img_backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
        stem_channels=16,
        base_channels=16,
        norm_eval=False,
    ),
    img_neck=dict(in_channels=[32, 64]),
    pts_bbox_head=dict(
        bev_h=20,
        bev_w=20,
        transformer=dict(encoder=dict(num_layers=1)),
    ),
)

image_view = dict(
    type='ImageView',
    size=(160, 90),
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadMultiViewImages', cache_mb=2000),
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
runner = dict(max_epochs=2)
evaluation = dict(interval=2)

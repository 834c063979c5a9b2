# The pint-sized teacher of the demo: a BEVFormer that learns on two CPU cores, from scratch and in minutes. 320x180
# images padded to 320x192, two levels (C3, C4), BEV 40x40, queue of 2. Works on the synthetic world and, since the view
# is given as a size, on real nuScenes as well.
# What differs from BEVFormer beside the sizes: there are no pretrained weights, so BatchNorm learns, the neck is
# normalised, and embeddings start small.
_base_ = [
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_24e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]

model = dict(
    type='BEVFormer',
    use_grid_mask=False,
    img_backbone=dict(
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
    img_neck=dict(type='FPN', in_channels=[32, 64], out_channels=64, num_outs=2, norm_cfg=dict(type='BN')),
    pts_bbox_head=dict(
        type='BEVFormerHead',
        bev_h=40,
        bev_w=40,
        num_query=150,
        num_classes=10,
        pc_range=point_cloud_range,
        box_convention='v1.0',
        embed_std=0.1,
        transformer=dict(
            type='PerceptionTransformer',
            embed_dims=64,
            num_cams=6,
            encoder=dict(
                num_layers=2,
                num_heads=4,
                num_levels=2,
                num_points=4,
                num_points_in_pillar=4,
                feedforward_dims=128,
                dropout=0.0,
            ),
            decoder=dict(num_layers=3, num_heads=4, feedforward_dims=128, dropout=0.0),
        ),
        bbox_coder=dict(post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0], max_num=100),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=0.25),
    ),
)

image_view = dict(
    type='ImageView',
    size=(320, 180),
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadMultiViewImages'),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True, with_attr_label=False),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    image_view,
    dict(type='FormatFrame'),
]
test_pipeline = [dict(type='LoadMultiViewImages'), image_view, dict(type='FormatFrame')]
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, queue_length=2),
    val=dict(pipeline=test_pipeline),
    test=dict(pipeline=test_pipeline),
)

optimizer = dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.01)
lr_config = dict(
    _delete_=True,
    policy='CosineAnnealing',
    warmup='linear',
    warmup_iters=50,
    warmup_ratio=0.1,
    min_lr_ratio=1e-2,
)
runner = dict(max_epochs=6)
evaluation = dict(interval=6)
log_config = dict(interval=20)

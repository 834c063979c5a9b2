# The teacher of the pair on which distillation can be judged: like bevformer_teacher.py, for a world whose objects are
# near (tools/create_synthetic.py --reach 24). 256x144 images padded to 256x160, BEV 40x40 of 1.6 m.
# What differs beside the sizes makes headings and velocities learn, which place drowns in BEVFormer's loss (see
# benchmarks/kd_gain_tuning.md): codes weigh by how much they move the network, velocities come in units of 5 m/s, a
# dense head teaches the BEV feature while training, and queries know where their cells lie.
_base_ = ['./bevformer_teacher.py']

point_cloud_range = [-32.0, -32.0, -5.0, 32.0, 32.0, 3.0]

model = dict(
    dense_head=dict(velocity_scale=5.0, box_weight=4.0),
    pts_bbox_head=dict(
        pc_range=point_cloud_range,
        bev_geometry=True,
        velocity_scale=5.0,
        code_weights=[0.3, 0.3, 1.0, 1.0, 0.5, 1.0, 4.0, 4.0, 0.5, 0.5],
        bbox_coder=dict(post_center_range=[-40.0, -40.0, -10.0, 40.0, 40.0, 10.0]),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.5),
    ),
)

image_view = dict(
    type='ImageView',
    size=(256, 144),
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
    train=dict(pipeline=train_pipeline, point_cloud_range=point_cloud_range, random_queue=False),
    val=dict(pipeline=test_pipeline, point_cloud_range=point_cloud_range),
    test=dict(pipeline=test_pipeline, point_cloud_range=point_cloud_range),
)

compute = dict(modules=['img_backbone', 'img_neck'], channels_last=True)
optimizer = dict(lr=2e-3, fused=True)
runner = dict(max_epochs=5)
evaluation = dict(interval=5)

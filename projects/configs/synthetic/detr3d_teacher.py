# The pint-sized DETR3D: learns on two CPU cores, from scratch. 320x180 images padded to 320x192, three levels of 64
# channels, 150 queries, three decoder layers. What differs beside the sizes is what differs in bevformer_teacher.py.
from projects.configs._base_ import camera

_base_ = [
    '../_base_/models/detr3d.py',
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_24e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    use_grid_mask=False,
    img_backbone=camera.PINT_R18,
    img_neck=dict(
        type='FPN',
        in_channels=[32, 64],
        out_channels=64,
        add_extra_convs='on_output',
        num_outs=3,
        norm_cfg=dict(type='BN'),
    ),
    pts_bbox_head=dict(
        num_query=150,
        box_convention='v1.0',
        embed_std=0.1,
        transformer=dict(
            embed_dims=64,
            num_levels=3,
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
    **camera.data(train_pipeline, test_pipeline, queue_length=1),
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

# The pint-sized BEVDepth on the world of near objects (tools/create_synthetic.py --reach 18 --pace 0.5): 256x128 images,
# 28 depth bins of 1 m, BEV 64x64 of 0.8 m, one key frame, from scratch.
from projects.configs._base_ import camera

_base_ = [
    '../_base_/models/bevdepth.py',
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_step_24e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = [-25.6, -25.6, -5.0, 25.6, 25.6, 3.0]
_limits = [-32.0, -32.0, -10.0, 32.0, 32.0, 10.0]
_widths = [16, 32, 64, 128]

model = dict(
    backbone=dict(
        lift_splat=dict(
            pc_range=point_cloud_range, cell=0.8, depth_range=(1.0, 29.0, 1.0), image_size=(128, 256)
        ),
        img_backbone=dict(depth=18, stem_channels=16, base_channels=16, init_cfg=None),
        img_neck=dict(in_channels=_widths, out_channels=[16] * 4),
        depth_net=dict(in_channels=64, mid_channels=64),
        out_channels=32,
    ),
    head=dict(
        trunk=dict(in_channels=32, base_channels=32),
        neck=dict(in_channels=[32, 32, 64, 128], out_channels=[16] * 4),
        in_channels=64,
        share_conv_channel=32,
        bbox_coder=dict(pc_range=point_cloud_range[:2], post_center_range=_limits),
    ),
    train_cfg=dict(point_cloud_range=point_cloud_range, grid_size=[256, 256, 1]),
    test_cfg=dict(post_center_limit_range=_limits),
)

train_pipeline, test_pipeline = camera.lifting_pipelines(
    (256, 128), (256, 144), None, bev=None, float32=False, pc_range=point_cloud_range
)
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, queue_length=1, point_cloud_range=point_cloud_range),
    val=dict(pipeline=test_pipeline, point_cloud_range=point_cloud_range),
    test=dict(pipeline=test_pipeline, point_cloud_range=point_cloud_range),
)

optimizer = dict(lr=1e-3, weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(
    _delete_=True,
    policy='CosineAnnealing',
    by_epoch=False,
    warmup='linear',
    warmup_iters=50,
    warmup_ratio=0.1,
    min_lr_ratio=1e-2,
)
runner = dict(max_epochs=3)
evaluation = dict(interval=3)
log_config = dict(interval=20)

# Overfit the pint-sized BEVDepth to one real frame, the shortest proof that geometry, targets and evaluation agree:
#   tools/train.py THIS --data-root FOLDER_WITH_ONE_FRAME
# The world is as wide as nuScenes' and not that of near objects: BEV 128x128 of 0.8 m, 58 depth bins of 1 m. It is
# evaluated on the frame that it trains on; an epoch shows the frame 50 times.
from projects.configs._base_ import camera

_base_ = ['./bevdepth_near_teacher.py']

point_cloud_range = camera.RANGE
_limits = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
model = dict(
    backbone=dict(lift_splat=dict(pc_range=point_cloud_range, depth_range=(1.0, 59.0, 1.0))),
    head=dict(
        bbox_coder=dict(pc_range=point_cloud_range[:2], post_center_range=_limits),
        separate_head=dict(head_conv=16),  # four times as many cells as the world of near objects has
    ),
    train_cfg=dict(point_cloud_range=point_cloud_range, grid_size=[512, 512, 1]),
    test_cfg=dict(post_center_limit_range=_limits),
)

train_pipeline, test_pipeline = camera.lifting_pipelines((256, 128), 0.16, None, bev=None, float32=False)
_frame = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='nuscenes_infos_temporal_train.pkl',
    pipeline=train_pipeline,
    classes={{_base_.class_names}},
    use_valid_flag=False,
)
_same_frame = dict(
    ann_file='nuscenes_infos_temporal_train.pkl',
    pipeline=test_pipeline,
    point_cloud_range=point_cloud_range,
)
data = dict(
    samples_per_gpu=1,
    train=dict(_delete_=True, type='RepeatDataset', times=50, dataset=_frame),
    val=_same_frame,
    test=_same_frame,
)
optimizer = dict(lr=2e-3)
lr_config = dict(warmup_iters=20)
runner = dict(max_epochs=6)
evaluation = dict(interval=2)
checkpoint_config = dict(interval=2)

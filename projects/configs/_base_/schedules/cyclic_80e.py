"""80 epochs of AdamW whose rate rises tenfold over 40 % of the steps and falls to almost nothing, for LiDAR on KITTI."""

optimizer = dict(type='AdamW', lr=1e-3, betas=(0.95, 0.99), weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='cyclic', target_ratio=(10, 1e-4), cyclic_times=1, step_ratio_up=0.4)
momentum_config = dict(policy='cyclic', target_ratio=(0.85 / 0.95, 1), cyclic_times=1, step_ratio_up=0.4)
runner = dict(type='EpochBasedRunner', max_epochs=80)
evaluation = dict(interval=2)

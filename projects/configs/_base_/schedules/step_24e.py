"""24 epochs of AdamW at a rate that falls tenfold after 20 and after 23, for pillars on nuScenes."""

optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=1000, warmup_ratio=1e-3, step=[20, 23])
runner = dict(type='EpochBasedRunner', max_epochs=24)
evaluation = dict(interval=24)

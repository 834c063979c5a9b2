"""24 epochs of AdamW with two steps down, as BEVDepth trains; the learning rate belongs to 8 GPUs with 8 samples each."""

optimizer = dict(type='AdamW', lr=2e-4, weight_decay=1e-7)
optimizer_config = dict(grad_clip=dict(max_norm=5, norm_type=2))
lr_config = dict(policy='step', step=[19, 23])
runner = dict(type='EpochBasedRunner', max_epochs=24)
evaluation = dict(interval=24)

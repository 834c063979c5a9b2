"""24 epochs of AdamW with a cosine, as BEVFormer and FocalDistiller train; 8 GPUs with one sample each."""

optimizer = dict(
    type='AdamW',
    lr=2e-4,
    paramwise_cfg=dict(custom_keys={'img_backbone': dict(lr_mult=0.1)}),
    weight_decay=0.01,
)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(
    policy='CosineAnnealing', warmup='linear', warmup_iters=500, warmup_ratio=1.0 / 3, min_lr_ratio=1e-3
)
runner = dict(type='EpochBasedRunner', max_epochs=24)
evaluation = dict(interval=24)

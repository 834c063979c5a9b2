"""What every run needs: checkpoints, logs, launch."""

checkpoint_config = dict(interval=1)
log_config = dict(
    interval=50,
    hooks=[
        dict(type='TextLoggerHook', ignore_last=False),
        dict(type='TensorboardLoggerHook', ignore_last=False),
    ],
)
seed = 0
load_from = None

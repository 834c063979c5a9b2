"""20 epochs of AdamW whose rate rises tenfold over 40 % of the steps, for LiDAR on nuScenes."""

_base_ = ['./cyclic_80e.py']

optimizer = dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.01)
runner = dict(max_epochs=20)
evaluation = dict(interval=20)

# BEVDepth, ResNet-50, 256x704, two key frames. Published (24 epochs): 33.0 mAP, 43.6 NDS; with EMA 33.3 / 44.1.
# Published weights: bev_depth_lss_r50_256x704_128x128_24e_2key.pth, and _ema; see bevdepth_r50_256x704.py.
_base_ = ['./bevdepth_r50_256x704.py']

model = dict(
    num_frames=2,
    head=dict(trunk=dict(in_channels=160), neck=dict(in_channels=[160, 160, 320, 640])),
    train_cfg=dict(code_weights=[1.0] * 10),
)
data = dict(train=dict(queue_length=2, random_queue=False))

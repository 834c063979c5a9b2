# BEVDepth, ResNet-101, 512x1408, two key frames: the teacher of the recipes for bevdepth_r50_256x704_2key.py.
_base_ = ['./bevdepth_r50_512x1408_2key.py']

model = dict(
    backbone=dict(
        img_backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
    )
)

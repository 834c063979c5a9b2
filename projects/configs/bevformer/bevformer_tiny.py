# BEVFormer-tiny: R50, 450x800 images padded to 480x800, C5 only, BEV 50x50, queue of 3 (NDS 35.4, mAP 25.2).
# Published weights: bevformer_tiny_epoch_24.pth (BEVFormer) load strictly. The tiny of the FD3D paper (BEV 100x100)
# is another model.
_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(3,),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=50,
        bev_w=50,
        transformer=dict(encoder=dict(num_layers=3, num_levels=1)),
    ),
)

# BEVFormer-tiny with a timm backbone in place of ResNet-50: any timm model that gives feature maps will do.
# No published weights; timm downloads ImageNet weights when training starts.
_base_ = ['./bevformer_tiny.py']

model = dict(
    img_backbone=dict(
        _delete_=True, type='TimmBackbone', model_name='convnext_tiny', out_indices=(3,), pretrained=True
    ),
    img_neck=dict(in_channels=[768]),
)

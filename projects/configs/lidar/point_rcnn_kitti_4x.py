# PointRCNN at half of all widths: the 4x student of PointDistiller.
_base_ = ['./point_rcnn_kitti.py']

model = dict(
    backbone=dict(
        sa_channels=(
            ((8, 8, 16), (16, 16, 32)),
            ((32, 32, 64), (32, 48, 64)),
            ((64, 98, 128), (64, 98, 128)),
            ((128, 128, 256), (128, 192, 256)),
        ),
    ),
    neck=dict(fp_channels=((768, 256, 256), (384, 256, 256), (304, 128, 128), (129, 64, 64))),
    rpn_head=dict(
        pred_layer_cfg=dict(in_channels=64, cls_linear_channels=(128, 128), reg_linear_channels=(128, 128)),
    ),
    roi_head=dict(
        bbox_head=dict(
            mlp_channels=[64, 64],
            sa_channels=((64, 64, 64), (64, 64, 128), (128, 128, 256)),
            pred_layer_cfg=dict(in_channels=256, cls_conv_channels=(128, 128), reg_conv_channels=(128, 128)),
        ),
    ),
)

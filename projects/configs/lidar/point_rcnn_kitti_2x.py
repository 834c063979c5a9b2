# PointRCNN at 1/sqrt(2) of all widths: half the parameters.
_base_ = ['./point_rcnn_kitti.py']

model = dict(
    backbone=dict(
        sa_channels=(
            ((11, 11, 23), (23, 23, 45)),
            ((45, 45, 91), (45, 68, 91)),
            ((91, 139, 181), (91, 139, 181)),
            ((181, 181, 362), (181, 272, 362)),
        ),
    ),
    neck=dict(fp_channels=((1086, 362, 362), (544, 362, 362), (430, 181, 181), (182, 91, 91))),
    rpn_head=dict(
        pred_layer_cfg=dict(in_channels=91, cls_linear_channels=(181, 181), reg_linear_channels=(181, 181)),
    ),
    roi_head=dict(
        bbox_head=dict(
            mlp_channels=[91, 91],
            sa_channels=((91, 91, 91), (91, 91, 181), (181, 181, 362)),
            pred_layer_cfg=dict(in_channels=362, cls_conv_channels=(181, 181), reg_conv_channels=(181, 181)),
        ),
    ),
)

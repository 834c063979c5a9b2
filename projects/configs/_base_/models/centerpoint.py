# What every CenterPoint on large point clouds has: SECOND's 2D stages, heads of one convolution, losses and decoding.
model = dict(
    type='CenterPoint',
    pts_backbone=dict(type='SECOND'),
    pts_neck=dict(type='SECONDFPN', use_conv_for_no_stride=True),
    pts_bbox_head=dict(
        type='CenterPointHead',
        share_conv_channel=64,
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2)),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        bbox_coder=dict(type='CenterPointBBoxCoder', max_num=500, score_threshold=0.1),
        loss_cls=dict(type='GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='L1Loss', reduction='mean'),
        norm_bbox=True,
    ),
    train_cfg=dict(pts=dict(dense_reg=1, gaussian_overlap=0.1, max_objs=500, min_radius=2)),
    test_cfg=dict(pts=dict(score_threshold=0.1, nms_type='rotate')),
)

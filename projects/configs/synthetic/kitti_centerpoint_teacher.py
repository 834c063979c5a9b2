# A scaled-down CenterPoint for KITTI: the pillars of kitti_pointpillars_teacher.py, one task of three classes, heatmaps
# with cells of 0.64 m, no velocity.
from projects.configs._base_ import kitti

_base_ = ['./kitti_pointpillars_teacher.py']

point_cloud_range = {{_base_.point_cloud_range}}
_voxel = [0.32, 0.32, 4]
_grid = dict(voxel_size=_voxel, point_cloud_range=kitti.NEAR)
_cell = dict(out_size_factor=2, voxel_size=_voxel)  # pillars per cell of a heatmap
_limits = [-2, -20, -5, 38, 20, 3]  # of decoded centres
_norm = dict(eps=1e-3, momentum=0.1)  # short runs, see the base

model = dict(
    _delete_=True,
    type='CenterPoint',
    pts_voxel_layer=dict(max_num_points=16, max_voxels=(6000, 6000), **_grid),
    pts_voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=4,
        feat_channels=[32],
        legacy=False,
        norm_cfg=dict(type='BN1d', **_norm),
        **_grid,
    ),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=32, output_shape=[112, 112]),
    pts_backbone=dict(
        type='SECOND',
        in_channels=32,
        out_channels=[48, 96],
        layer_nums=[3, 3],
        layer_strides=[2, 2],
        norm_cfg=dict(type='BN', **_norm),
    ),
    pts_neck=dict(
        type='SECONDFPN',
        in_channels=[48, 96],
        out_channels=[64, 64],
        upsample_strides=[1, 2],
        norm_cfg=dict(type='BN', **_norm),
    ),
    pts_bbox_head=dict(
        type='CenterPointHead',
        in_channels=128,
        share_conv_channel=32,
        tasks=[dict(num_class=3, class_names={{_base_.class_names}})],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2)),
        separate_head=dict(type='SeparateHead', head_conv=32, init_bias=-2.19, final_kernel=3),
        bbox_coder=dict(
            type='CenterPointBBoxCoder',
            pc_range=kitti.NEAR[:2],
            post_center_range=_limits,
            max_num=100,
            score_threshold=0.1,
            code_size=7,
            **_cell,
        ),
        loss_cls=dict(type='GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='L1Loss', reduction='mean', loss_weight=2.0),
        norm_bbox=True,
    ),
    train_cfg=dict(
        pts=dict(
            grid_size=[112, 112, 1],
            point_cloud_range=kitti.NEAR,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=50,
            min_radius=1,
            code_weights=[1.0] * 8,
            **_cell,
        )
    ),
    test_cfg=dict(
        pts=dict(
            pc_range=kitti.NEAR[:2],
            post_center_limit_range=_limits,
            score_threshold=0.1,
            nms_type='rotate',
            nms_thr=0.2,
            pre_max_size=100,
            post_max_size=50,
            **_cell,
        )
    ),
)

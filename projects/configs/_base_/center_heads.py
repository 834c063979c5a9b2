"""CenterPoint's heads on a BEV map of 128x128 cells of 0.8 m around a nuScenes car, as lift-splat detectors have them.

Configs import this module; the values end up in them as if they were written there.
"""

from projects.configs._base_.nuscenes import RANGE

TASKS = [
    ['car'], ['truck', 'construction_vehicle'], ['bus', 'trailer'], ['barrier'], ['motorcycle', 'bicycle'],
    ['pedestrian', 'traffic_cone'],
]  # fmt: skip
LIMITS = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]  # of decoded centres
CELL = dict(out_size_factor=4, voxel_size=[0.2, 0.2, 8])  # a heatmap has the BEV's cells


def head(in_channels: int) -> dict:
    """Arguments of a CenterPointHead.

    Args:
        in_channels: of the map that it reads.
    """
    return dict(
        in_channels=in_channels,
        share_conv_channel=64,
        tasks=[dict(num_class=len(names), class_names=names) for names in TASKS],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        bbox_coder=dict(
            type='CenterPointBBoxCoder',
            pc_range=RANGE[:2],
            post_center_range=LIMITS,
            max_num=500,
            score_threshold=0.1,
            code_size=9,
            **CELL,
        ),
        loss_cls=dict(type='GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='L1Loss', reduction='mean', loss_weight=0.25),
        norm_bbox=True,
    )


def train_cfg(velocity: float) -> dict:
    """How targets are drawn.

    Args:
        velocity: weight of its error; other numbers of a box have 1.
    """
    return dict(
        point_cloud_range=RANGE,
        grid_size=[512, 512, 1],
        dense_reg=1,
        gaussian_overlap=0.1,
        max_objs=500,
        min_radius=2,
        code_weights=[1.0] * 8 + [velocity] * 2,
        **CELL,
    )


def test_cfg() -> dict:
    """How boxes are suppressed: by circles."""
    return dict(
        post_center_limit_range=LIMITS,
        max_per_img=500,
        min_radius=[4, 12, 10, 1, 0.85, 0.175],
        score_threshold=0.1,
        nms_type='circle',
        pre_max_size=1000,
        post_max_size=83,
        nms_thr=0.2,
        **CELL,
    )

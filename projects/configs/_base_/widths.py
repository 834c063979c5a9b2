"""Point-cloud detectors at other widths and on other grids, as PointDistiller and SparseKD define their students.

Configs import this module; the values end up in them as if they were written there.
"""


def narrow(widths: tuple, scale: float) -> tuple:
    """Every width of a nested tuple times ``scale``, to the nearest whole number."""
    return tuple(narrow(w, scale) if isinstance(w, tuple) else round(w * scale) for w in widths)


def pointpillars(scale: float) -> dict:
    """PointPillars on KITTI with all widths times ``scale``."""
    pillars, second, third = narrow((64, 128, 256), scale)
    joined = 3 * second
    return dict(
        voxel_encoder=dict(feat_channels=[pillars]),
        middle_encoder=dict(in_channels=pillars),
        backbone=dict(in_channels=pillars, out_channels=[pillars, second, third]),
        neck=dict(in_channels=[pillars, second, third], out_channels=[second] * 3),
        bbox_head=dict(in_channels=joined, feat_channels=joined),
    )


def pointpillars_nuscenes(scale: float) -> dict:
    """PointPillars with an FPN on nuScenes with all widths times ``scale``."""
    pillars, second, third = narrow((64, 128, 256), scale)
    return dict(
        pts_voxel_encoder=dict(feat_channels=[pillars, pillars]),
        pts_middle_encoder=dict(in_channels=pillars),
        pts_backbone=dict(in_channels=pillars, out_channels=[pillars, second, third]),
        pts_neck=dict(in_channels=[pillars, second, third], out_channels=third),
        pts_bbox_head=dict(in_channels=third, feat_channels=third),
    )


def second(scale: float) -> dict:
    """SECOND on KITTI with all widths times ``scale``."""
    first, middle, last = narrow((16, 32, 64), scale)
    sparse = int(128 * scale)  # of the last sparse convolution, which stacks two heights
    narrower, wider = narrow((128, 256), scale)
    return dict(
        middle_encoder=dict(
            base_channels=first,
            output_channels=sparse,
            encoder_channels=((first,), (middle,) * 3, (last,) * 3, (last,) * 3),
        ),
        backbone=dict(in_channels=2 * sparse, out_channels=[narrower, wider]),
        neck=dict(in_channels=[narrower, wider], out_channels=[wider, wider]),
        bbox_head=dict(in_channels=2 * wider, feat_channels=2 * wider),
    )


def point_rcnn(scale: float) -> dict:
    """PointRCNN with all widths times ``scale``."""
    levels = narrow(
        (
            ((16, 16, 32), (32, 32, 64)),
            ((64, 64, 128), (64, 96, 128)),
            ((128, 196, 256), (128, 196, 256)),
            ((256, 256, 512), (256, 384, 512)),
        ),
        scale,
    )
    first, second, third, fourth = (sum(branch[-1] for branch in level) for level in levels)
    w128, w256, w512 = narrow((128, 256, 512), scale)
    points = (w256, w256)
    return dict(
        backbone=dict(sa_channels=levels),
        neck=dict(
            fp_channels=(
                (fourth + third, w512, w512),
                (w512 + second, w512, w512),
                (w512 + first, w256, w256),
                (w256 + 1, w128, w128),  # and a point's reflectance
            )
        ),
        rpn_head=dict(
            pred_layer_cfg=dict(in_channels=w128, cls_linear_channels=points, reg_linear_channels=points)
        ),
        roi_head=dict(
            bbox_head=dict(
                mlp_channels=[w128, w128],
                sa_channels=((w128, w128, w128), (w128, w128, w256), (w256, w256, w512)),
                pred_layer_cfg=dict(in_channels=w512, cls_conv_channels=points, reg_conv_channels=points),
            )
        ),
    )


def centerpoint_grid(pillar: float, pillars: int, max_num_points: int) -> dict:
    """CP-Pillar on another grid.

    Args:
        pillar: edge of a pillar, metres.
        pillars: of them along an edge of the square around the car.
        max_num_points: points that a pillar keeps.
    """
    edge = round(pillar * pillars / 2, 2)
    area, cell = [-edge, -edge, -2, edge, edge, 4], dict(voxel_size=[pillar, pillar, 6])
    grid = dict(point_cloud_range=area, **cell)
    return dict(
        pts_voxel_layer=dict(max_num_points=max_num_points, **grid),
        pts_voxel_encoder=grid,
        pts_middle_encoder=dict(output_shape=[pillars, pillars]),
        pts_bbox_head=dict(bbox_coder=dict(pc_range=area[:2], **cell)),
        train_cfg=dict(pts=dict(grid_size=[pillars, pillars, 1], **grid)),
        test_cfg=dict(pts=dict(pc_range=area[:2], **cell)),
    )

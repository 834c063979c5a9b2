"""Second stages that configs share, with a detector of two stages and with recipes that train one beside a student.

Configs import this module; the values end up in them as if they were written there.
"""


def pint(pc_range: object, maps: dict, **points: object) -> dict:
    """A second stage of 0.2 M parameters for the scaled-down detectors: BEV maps and raw points.

    Args:
        pc_range: what the maps cover.
        maps: their names and channels, those that show most detail.
        points: further settings of what looks at the raw points.
    """
    return dict(
        type='RoIHead',
        features=[
            dict(type='BEVGridFeatures', maps=maps, pc_range=pc_range, channels=32, grid=6, scale=1.2),
            dict(type='PointSetFeatures', channels=[32, 64, 128], most=64, **points),
        ],
        train_proposals=dict(before=256, iou=0.5, kept=64),
        test_proposals=dict(before=256, iou=0.5, kept=64),
        sampler=dict(shifted=3),
        hidden=128,
        box_iou=[0.25, 0.25, 0.45],  # cells of 0.64 m are larger than a pedestrian: first boxes are far off
        score_thr=0.05,
        nms_iou=0.1,
        max_num=50,
    )


def full(pc_range: object, maps: dict, **points: object) -> dict:
    """The same for detectors of full size, with the selection of proposals that Voxel R-CNN publishes."""
    return dict(
        type='RoIHead',
        features=[
            dict(type='BEVGridFeatures', maps=maps, pc_range=pc_range, channels=32, grid=7, scale=1.2),
            dict(type='PointSetFeatures', channels=[64, 128, 256], most=256, **points),
        ],
        hidden=256,
        **_PUBLISHED,
    )


def voxel_rcnn(pc_range: object, voxel_size: object) -> dict:
    """The head of Voxel R-CNN (Deng et al., AAAI 2021): a 6 x 6 x 6 grid on the sparse voxels of three stages.

    Args:
        pc_range: what is voxelised.
        voxel_size: of the first stage, metres along x, y and z.
    """
    stages = [
        (1, 32, 0.4),
        (2, 64, 0.8),
        (3, 64, 1.6),
    ]  # stride of 2, 4, 8 voxels; channels; radius in metres
    stages = [
        dict(map=f'voxels_{i}', channels=width, stride=2**i, radius=radius) for i, width, radius in stages
    ]
    return dict(
        type='RoIHead',
        features=[
            dict(
                type='VoxelGridFeatures',
                stages=stages,
                pc_range=pc_range,
                voxel_size=voxel_size,
                grid=6,
                neighbours=16,
                reach=4,
                channels=32,
                norm='batch',
            )
        ],
        hidden=256,
        norm='batch',
        dropout=0.3,
        **_PUBLISHED,
    )


_PUBLISHED = dict(
    train_proposals=dict(before=9000, iou=0.8, kept=512),
    test_proposals=dict(before=2048, iou=0.7, kept=100),
    sampler=dict(number=128, foreground=0.5, foreground_iou=0.55),
    score_iou=(0.25, 0.75),
    box_iou=0.55,
    score_thr=0.3,
    nms_iou=0.1,
    max_num=100,
)

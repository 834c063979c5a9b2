"""What training pipelines on KITTI share: mmcv merges dictionaries but cannot edit one element of a list.

Configs import this module; the values end up in them as if they were written there.
"""

RANGE = [0, -40, -3, 70.4, 40, 1]
"""What detectors of full size look at: x0, y0, z0, x1, y1, z1, metres, LiDAR frame."""
NEAR = [0, -17.92, -3, 35.84, 17.92, 1]
"""What the scaled-down ones look at."""

_TURN = 0.78539816
_LITTLE_TURN = 0.3925


def whole_frame(turn: float = _TURN) -> list[dict]:
    """Mirror frames, turn them by up to ``turn`` radians either way, and scale them, by chance."""
    return [
        dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
        dict(type='GlobalRotScaleTrans', rot_range=[-turn, turn], scale_ratio_range=[0.95, 1.05]),
    ]


def whole_near_frame() -> list[dict]:
    """The same for scaled-down detectors, which see few frames and turn them less."""
    return whole_frame(_LITTLE_TURN)


def training(
    load_points: object,
    *augmentations: object,
    point_cloud_range: object,
    class_names: object,
    meta_keys: object,
    shuffle: bool = True,
    sample: dict | None = None,
) -> list:
    """Load points and objects, change them, keep what lies in range, and collect what a detector trains on.

    ``sample`` thins out the points that are left, for detectors that look at points.
    """
    return [
        load_points,
        dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
        *augmentations,
        dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
        dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
        dict(type='ObjectNameFilter', classes=class_names),
        *([sample] if sample else []),
        *([dict(type='PointShuffle')] if shuffle else []),
        dict(type='DefaultFormatBundle3D', class_names=class_names),
        dict(type='Collect3D', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys),
    ]


def testing(load_points: object, *transforms: object, class_names: object, meta_keys: object) -> list:
    """Load points, change them, and collect what a detector is tested on: one view of each frame."""
    return [
        load_points,
        dict(
            type='MultiScaleFlipAug3D',
            img_scale=(1333, 800),
            pts_scale_ratio=1,
            flip=False,
            transforms=[
                *transforms,
                dict(type='DefaultFormatBundle3D', class_names=class_names, with_label=False),
                dict(type='Collect3D', keys=['points'], meta_keys=meta_keys),
            ],
        ),
    ]


def pipelines_of(train: object, test: object, samples_per_gpu: int) -> dict:
    """The data of a detector that sees other things in training than in testing."""
    tested = dict(pipeline=test)
    return dict(samples_per_gpu=samples_per_gpu, train=dict(pipeline=train), val=tested, test=tested)


def sampled_pipelines(
    load_points: object,
    *augmentations: object,
    sample: dict,
    point_cloud_range: object,
    class_names: object,
    meta_keys: object,
) -> tuple[list, list]:
    """How a detector that looks at a number of points is trained and tested."""
    named = dict(class_names=class_names, meta_keys=meta_keys)
    area = dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range)
    return (
        training(load_points, *augmentations, point_cloud_range=point_cloud_range, sample=sample, **named),
        testing(load_points, area, sample, **named),
    )


def paste(info_path: str, load_points: object, class_names: object, least_points: dict, counts: dict) -> dict:
    """Paste objects of a database until a frame has so many of each class.

    Args:
        info_path: the database; paths in it lie below ``data/kitti/``, which ``--data-root DIR`` replaces.
        load_points: how its clouds are read.
        class_names: in the order of the labels.
        least_points: that an object of each class must have.
        counts: of each class.
    """
    return dict(
        type='ObjectSample',
        db_sampler=dict(
            type='ObjectDatabase',
            data_root='data/kitti/',
            info_path=info_path,
            rate=1.0,
            prepare=dict(filter_by_difficulty=[-1], filter_by_min_points=least_points),
            classes=class_names,
            sample_groups=counts,
            points_loader=load_points,
        ),
    )

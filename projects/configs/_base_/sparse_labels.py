"""What configs of sparse labels share: pasting objects of a database, which is most of what few labels have to teach.

Configs import this module; the values end up in them as if they were written there.
"""

DATA_ROOT = 'data/kitti/'
"""Where `--data-root DIR` is put in its place, as in the dataset's own config."""


def paste(info_path: str, load_points: object, class_names: object) -> dict:
    """Paste objects until there are five cars, four pedestrians and four cyclists."""
    return dict(
        type='ObjectSample',
        db_sampler=dict(
            type='ObjectDatabase',
            data_root=DATA_ROOT,
            info_path=DATA_ROOT + info_path,
            rate=1.0,
            prepare=dict(
                filter_by_difficulty=[-1],
                filter_by_min_points=dict(Car=5, Pedestrian=5, Cyclist=5),
            ),
            classes=class_names,
            sample_groups=dict(Car=5, Pedestrian=4, Cyclist=4),
            points_loader=load_points,
        ),
    )


def pint_augmentations(database: str, load_points: object, class_names: object) -> list[dict]:
    """Of the scaled-down detectors: paste, flip, turn and scale."""
    return [
        paste(database, load_points, class_names),
        dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
        dict(type='GlobalRotScaleTrans', rot_range=[-0.3925, 0.3925], scale_ratio_range=[0.95, 1.05]),
    ]


def repeated(times: int, **dataset: object) -> dict:
    """A dataset of the frames that have labels, so often that an epoch is as long as with all frames."""
    return dict(
        _delete_=True, type='RepeatDataset', times=times, dataset=dict(data_root=DATA_ROOT, **dataset)
    )

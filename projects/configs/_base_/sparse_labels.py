"""What configs of sparse labels share: how they mine, and pasting, which is most of what few labels have to teach.

Configs import this module; the values end up in them as if they were written there.
"""

from projects.configs._base_ import kitti

DATA_ROOT = 'data/kitti/'
"""Where `--data-root DIR` is put in its place, as in the dataset's own config."""


def self_training(split: str, iterations: int, rotate: float, start: str, epochs: int | None) -> dict:
    """How a detector mines what the labels of a split leave out, and trains on it.

    Args:
        split: its record, below the data root.
        iterations: rounds of mining and training.
        rotate: radians by which the second view is turned at most, as far as training turns.
        start: where each training begins, 'scratch' or 'previous'.
        epochs: of each training; the config's own if None.
    """
    return dict(
        split=split,
        iterations=iterations,
        mine=dict(
            least_score=0.1,
            score='labels',
            between=0.5,
            consistency=0.5,
            rotate=rotate,
            scale=(0.95, 1.05),
            least_points=5,
        ),
        unsure='remove',
        own_scene=True,
        fill=False,
        start=start,
        epochs=epochs,
        pretrained=None,
    )


def original(**schedule: int) -> dict:
    """SS3D as it was published: one high threshold for all classes and for both views, a bank that never gives up what it
    has, mined objects that fill the holes of other scenes and are no labels of their own.

    Args:
        schedule: ``iterations`` and ``epochs``, where they differ too.
    """
    mine = dict(
        score=0.9,
        both_scores=True,
        consistency=0.5,
        weight=0.6,
        least_score=0.1,
        least_points=1,
        keep='monotone',
    )
    return dict(mine=mine, own_scene=False, fill=True, **schedule)


def pint_augmentations(database: str, load_points: object, class_names: object) -> list[dict]:
    """Of the scaled-down detectors: flip, turn, scale, and paste until there are five cars and four of each other class."""
    few = dict(Car=5, Pedestrian=5, Cyclist=5)
    return [
        kitti.paste(
            DATA_ROOT + database, load_points, class_names, few, dict(Car=5, Pedestrian=4, Cyclist=4)
        ),
        *kitti.whole_near_frame(),
    ]


def pint_pipeline(
    split: str, load_points: object, names: object, meta_keys: object, **sample: object
) -> list:
    """How a scaled-down detector is trained on the few labels of a split.

    Args:
        split: what its files are called after.
        load_points: how clouds are read.
        names: of the classes, in the order of the labels.
        meta_keys: what is collected beside points and labels.
        sample: how points are thinned out, see :func:`kitti.training`.
    """
    return kitti.training(
        load_points,
        *pint_augmentations(f'kitti_dbinfos_train_{split}.pkl', load_points, names),
        point_cloud_range=kitti.NEAR,
        class_names=names,
        meta_keys=meta_keys,
        **sample,
    )


def pint_data(split: str, pipeline: object, names: object, dataset_type: object) -> dict:
    """The frames of a split in which every third one has a label, so often that an epoch is as long as with all frames."""
    frames = dict(type=dataset_type, ann_file=f'kitti_infos_train_{split}.pkl', pipeline=pipeline)
    repeated = dict(data_root=DATA_ROOT, classes=names, point_cloud_range=kitti.NEAR, **frames)
    return dict(train=dict(_delete_=True, type='RepeatDataset', times=3, dataset=repeated))

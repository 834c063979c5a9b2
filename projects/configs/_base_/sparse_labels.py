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
        dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
        dict(type='GlobalRotScaleTrans', rot_range=[-0.3925, 0.3925], scale_ratio_range=[0.95, 1.05]),
    ]


def repeated(times: int, **dataset: object) -> dict:
    """A dataset of the frames that have labels, so often that an epoch is as long as with all frames."""
    return dict(
        _delete_=True, type='RepeatDataset', times=times, dataset=dict(data_root=DATA_ROOT, **dataset)
    )

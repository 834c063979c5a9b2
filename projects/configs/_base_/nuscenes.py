"""What configs of camera and of LiDAR detectors share on nuScenes.

Configs import this module; the values end up in them as if they were written there.
"""

CLASSES = [
    'car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian',
    'traffic_cone',
]  # fmt: skip
RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]


def data(
    dataset_type: str, data_root: str, train_pipeline: list[dict], test_pipeline: list[dict], **train: object
) -> dict:
    """Info files, classes and pipelines of the three splits; ``train`` are further settings of the training set."""
    split = dict(type=dataset_type, data_root=data_root, classes=CLASSES, point_cloud_range=RANGE)
    test = dict(ann_file='nuscenes_infos_temporal_val.pkl', pipeline=test_pipeline, test_mode=True, **split)
    train_set = dict(
        ann_file='nuscenes_infos_temporal_train.pkl',
        pipeline=train_pipeline,
        test_mode=False,
        **train,
        **split,
    )
    return dict(train=train_set, val=test, test=test)

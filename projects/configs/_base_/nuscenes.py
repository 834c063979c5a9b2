"""What configs of camera and of LiDAR detectors share on nuScenes.

Configs import this module; the values end up in them as if they were written there.
"""

CLASSES = [
    'car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian',
    'traffic_cone',
]  # fmt: skip
RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]


def sweeps_pipelines(pc_range: object = RANGE, sweeps: int = 9) -> tuple[list[dict], list[dict]]:
    """The pipelines of training and testing of LiDAR detectors on a keyframe and the sweeps before it.

    Args:
        pc_range: what points are kept and boxes are learnt in.
        sweeps: how many; a sample at the start of a scene has none yet, and its own points stand in, so that densities
            stay alike.
    """
    load = dict(type='LoadPoints', coord_type='LIDAR', load_dim=5, use_dim=5)
    earlier = dict(type='LoadSweeps', sweeps_num=sweeps, use_dim=[0, 1, 2, 3, 4])
    earlier |= dict(pad_empty_sweeps=True, remove_close=True)
    in_range = dict(type='PointsRangeFilter', point_cloud_range=pc_range)
    train = [
        load,
        earlier,
        dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
        dict(type='GlobalRotScaleTrans', rot_range=[-0.3925, 0.3925], scale_ratio_range=[0.95, 1.05]),
        dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
        in_range,
        dict(type='ObjectRangeFilter', point_cloud_range=pc_range),
        dict(type='ObjectNameFilter', classes=CLASSES),
        dict(type='PointShuffle'),
        dict(type='DefaultFormatBundle3D', class_names=CLASSES),
        dict(type='Collect3D', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
    ]
    form = [
        in_range,
        dict(type='DefaultFormatBundle3D', class_names=CLASSES, with_label=False),
        dict(type='Collect3D', keys=['points']),
    ]
    # one view: mmdet3d's detectors take the views of test-time augmentation as a list
    views = dict(type='MultiScaleFlipAug3D', img_scale=(1, 1), pts_scale_ratio=1, flip=False, transforms=form)
    return train, [load, earlier | dict(test_mode=True), views]


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

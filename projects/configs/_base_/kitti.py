"""What training pipelines on KITTI share: mmcv merges dictionaries but cannot edit one element of a list.

Configs import this module; the values end up in them as if they were written there.
"""


def training(
    load_points: object,
    *augmentations: object,
    point_cloud_range: object,
    class_names: object,
    meta_keys: object,
    shuffle: bool = True,
) -> list:
    """Load points and objects, change them, keep what lies in range, and collect what a detector trains on."""
    return [
        load_points,
        dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
        *augmentations,
        dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
        dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
        dict(type='ObjectNameFilter', classes=class_names),
        *([dict(type='PointShuffle')] if shuffle else []),
        dict(type='DefaultFormatBundle3D', class_names=class_names),
        dict(type='Collect3D', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys),
    ]

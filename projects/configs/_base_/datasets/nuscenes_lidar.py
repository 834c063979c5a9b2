# nuScenes for LiDAR detectors: a keyframe and the nine sweeps before it, on the info files of the camera detectors.
# `data_root` is the only path; `--data-root DIR` on every tool replaces it.
from projects.configs._base_ import nuscenes

dataset_type = 'NuScenesSweepsDataset'
data_root = 'data/nuscenes'
class_names = nuscenes.CLASSES
point_cloud_range = nuscenes.RANGE

_load = dict(type='LoadPoints', coord_type='LIDAR', load_dim=5, use_dim=5)
# A sample at the start of a scene has no sweeps yet: its own points stand in, so that densities stay alike.
_sweeps = dict(type='LoadSweeps', sweeps_num=9, pad_empty_sweeps=True, remove_close=True)
_in_range = dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range)

train_pipeline = [
    _load,
    dict(use_dim=[0, 1, 2, 3, 4], **_sweeps),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='GlobalRotScaleTrans', rot_range=[-0.3925, 0.3925], scale_ratio_range=[0.95, 1.05]),
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    _in_range,
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(type='PointShuffle'),
    dict(type='DefaultFormatBundle3D', class_names=class_names),
    dict(type='Collect3D', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
_format = [
    _in_range,
    dict(type='DefaultFormatBundle3D', class_names=class_names, with_label=False),
    dict(type='Collect3D', keys=['points']),
]
test_pipeline = [
    _load,
    dict(use_dim=[0, 1, 2, 3, 4], test_mode=True, **_sweeps),
    # one view: mmdet3d's detectors take the views of test-time augmentation as a list
    dict(type='MultiScaleFlipAug3D', img_scale=(1, 1), pts_scale_ratio=1, flip=False, transforms=_format),
]

data = dict(
    samples_per_gpu=4,
    workers_per_gpu=4,
    **nuscenes.data(dataset_type, data_root, train_pipeline, test_pipeline),
)

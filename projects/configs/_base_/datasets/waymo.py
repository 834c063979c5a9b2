# A fifth of Waymo for LiDAR detectors, in the KITTI layout that mmdet3d's converter writes. Waymo's licence keeps its
# data off this project: this file says what training would read, and nothing here was run on it.
dataset_type = 'WaymoDataset'
data_root = 'data/waymo/kitti_format/'
class_names = ['Car', 'Pedestrian', 'Cyclist']
point_cloud_range = [-75.2, -75.2, -2, 75.2, 75.2, 4]

_load = dict(type='LoadPoints', coord_type='LIDAR', load_dim=6, use_dim=5)
train_pipeline = [
    _load,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type='GlobalRotScaleTrans', rot_range=[-0.78539816, 0.78539816], scale_ratio_range=[0.95, 1.05]),
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='PointShuffle'),
    dict(type='DefaultFormatBundle3D', class_names=class_names),
    dict(type='Collect3D', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
data = dict(
    samples_per_gpu=4,
    workers_per_gpu=4,
    train=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=data_root + 'waymo_infos_train.pkl',
        split='training',
        pipeline=train_pipeline,
        modality=dict(use_lidar=True, use_camera=False),
        classes=class_names,
        box_type_3d='LiDAR',
        load_interval=5,
    ),
)

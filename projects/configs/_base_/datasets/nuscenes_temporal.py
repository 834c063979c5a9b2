# nuScenes for temporal camera detectors. `data_root` is the only path: info files are looked up below it, and
# `--data-root DIR` on every tool replaces it. Configs give their own view (image size, normalisation) by setting
# `train_pipeline` and `test_pipeline` with another ImageView, and their queue_length.
dataset_type = 'NuScenesTemporalDataset'
data_root = 'data/nuscenes'
class_names = [
    'car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian',
    'traffic_cone',
]  # fmt: skip
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
queue_length = 4

# 1600x900, BGR, mean subtracted: what the caffe-style ResNet-101 of BEVFormer base expects
image_view = dict(type='ImageView', mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
train_pipeline = [
    dict(type='LoadMultiViewImages'),
    dict(type='PhotoMetricDistortionMultiView'),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True, with_attr_label=False),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    image_view,
    dict(type='FormatFrame'),
]
test_pipeline = [dict(type='LoadMultiViewImages'), image_view, dict(type='FormatFrame')]

data = dict(
    samples_per_gpu=1,
    workers_per_gpu=4,
    train=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_temporal_train.pkl',
        pipeline=train_pipeline,
        classes=class_names,
        point_cloud_range=point_cloud_range,
        queue_length=queue_length,
        test_mode=False,
    ),
    val=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_temporal_val.pkl',
        pipeline=test_pipeline,
        classes=class_names,
        point_cloud_range=point_cloud_range,
        test_mode=True,
    ),
    test=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_temporal_val.pkl',
        pipeline=test_pipeline,
        classes=class_names,
        point_cloud_range=point_cloud_range,
        test_mode=True,
    ),
)

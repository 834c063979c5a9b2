# nuScenes for temporal camera detectors. `data_root` is the only path: info files are looked up below it, and
# `--data-root DIR` on every tool replaces it. Configs give their own view (image size, normalisation) by pipelines of
# another ImageView (../camera.py), and their queue_length.
from projects.configs._base_ import camera

dataset_type = 'NuScenesTemporalDataset'
data_root = 'data/nuscenes'
class_names = camera.CLASSES
point_cloud_range = camera.RANGE
queue_length = 4

image_view = camera.caffe_view()  # 1600x900: what the ResNet-101 of BEVFormer base expects
train_pipeline, test_pipeline = camera.pipelines(image_view)

_split = dict(
    type=dataset_type,
    data_root=data_root,
    classes=class_names,
    point_cloud_range=point_cloud_range,
)
_test = dict(ann_file='nuscenes_infos_temporal_val.pkl', pipeline=test_pipeline, test_mode=True, **_split)
data = dict(
    samples_per_gpu=1,
    workers_per_gpu=4,
    train=dict(
        ann_file='nuscenes_infos_temporal_train.pkl',
        pipeline=train_pipeline,
        queue_length=queue_length,
        test_mode=False,
        **_split,
    ),
    val=_test,
    test=_test,
)

# nuScenes for temporal camera detectors. `data_root` is the only path: info files are looked up below it, and
# `--data-root DIR` on every tool replaces it. Configs give their own view (image size, normalisation) by pipelines of
# another ImageView (../camera.py), and their queue_length.
from projects.configs._base_ import camera, nuscenes

dataset_type = 'NuScenesTemporalDataset'
data_root = 'data/nuscenes'
class_names = nuscenes.CLASSES
point_cloud_range = nuscenes.RANGE
queue_length = 4

image_view = camera.caffe_view()  # 1600x900: what the ResNet-101 of BEVFormer base expects
train_pipeline, test_pipeline = camera.pipelines(image_view)

data = dict(
    samples_per_gpu=1,
    workers_per_gpu=4,
    **nuscenes.data(dataset_type, data_root, train_pipeline, test_pipeline, queue_length=queue_length),
)

# nuScenes for LiDAR detectors: a keyframe and the nine sweeps before it, on the info files of the camera detectors.
# `data_root` is the only path; `--data-root DIR` on every tool replaces it.
from projects.configs._base_ import nuscenes

dataset_type = 'NuScenesSweepsDataset'
data_root = 'data/nuscenes'
class_names = nuscenes.CLASSES
point_cloud_range = nuscenes.RANGE

train_pipeline, test_pipeline = nuscenes.sweeps_pipelines()

data = dict(
    samples_per_gpu=4,
    workers_per_gpu=4,
    **nuscenes.data(dataset_type, data_root, train_pipeline, test_pipeline),
)

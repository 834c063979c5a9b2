# BEVDepth, ResNet-50, 256x704, one key frame. Published (24 epochs): about 31 mAP, 35 NDS (users of the original).
#
# Published weights of Megvii's BEVDepth (github.com/Megvii-BaseDetection/BEVDepth, release v0.0.2) load strictly into the
# configs of this folder. They were trained in the ego frame, with cells rounded towards zero:
#   tools/test.py CONFIG WEIGHTS --cfg-options model.frame=ego model.backbone.lift_splat.truncate=True
# BatchNorm sees as few as six numbers per sample in the depth network: train with at least two samples per GPU.
from projects.configs._base_ import camera

_base_ = [
    '../_base_/models/bevdepth.py',
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_step_24e.py',
    '../_base_/default_runtime.py',
]

image_augmentation = dict(scale=(0.386, 0.55), flip=0.5, rotate=5.4)
train_pipeline, test_pipeline = camera.lifting_pipelines((704, 256), 0.44, image_augmentation)
data = dict(samples_per_gpu=8, **camera.data(train_pipeline, test_pipeline, queue_length=1))

# BEVDepth as the BEVDet family builds it, ResNet-50, 256x704, one key frame. Published, with CBGS: 33.3 mAP, 40.6 NDS.
#
# State-dict keys equal those of BEVDet's branch master (github.com/HuangJunJie2017/BEVDet, bevdepth-r50), whose weights were
# trained in the LiDAR frame with cells rounded towards zero and tested with rotated suppression on scaled boxes:
#   tools/test.py CONFIG WEIGHTS --cfg-options model.img_view_transformer.lift_splat.truncate=True
# BatchNorm sees six numbers per sample in the camera's attention: train with at least two samples per GPU.
from projects.configs._base_ import camera

_base_ = [
    '../_base_/models/bevdet.py',
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_step_24e.py',
    '../_base_/default_runtime.py',
]

image_augmentation = dict(scale=(0.38, 0.55), flip=0.5, rotate=5.4)
train_pipeline, test_pipeline = camera.lifting_pipelines((704, 256), 0.48, image_augmentation)
data = dict(samples_per_gpu=8, **camera.data(train_pipeline, test_pipeline, queue_length=1))
optimizer = dict(weight_decay=0.01)

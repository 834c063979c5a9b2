# BEVDepth, ResNet-50, 512x1408, two key frames. No figures are published.
from projects.configs._base_ import camera

_base_ = ['./bevdepth_r50_256x704_2key.py']

model = dict(backbone=dict(lift_splat=dict(image_size=(512, 1408))))
image_augmentation = dict(scale=(0.772, 1.10), flip=0.5, rotate=5.4)
train_pipeline, test_pipeline = camera.lifting_pipelines((1408, 512), 0.88, image_augmentation)
data = camera.data(train_pipeline, test_pipeline)
optimizer = dict(weight_decay=1e-3)

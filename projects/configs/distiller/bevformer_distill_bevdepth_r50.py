# A camera teacher of another family: BEVFormer-base (BEV of 200x200 cells) teaches BEVDepth-R50 (128x128), one key frame.
# Both maps are compared in the same metres. The areas and positions are those of BEVFormer's own queries.
# BEVFormer follows its history by the motion that can_bus tells, so the world is not turned.
from projects.configs._base_ import camera
from projects.configs._base_.recipes import bevformer_base

_base_ = ['../bevdepth/bevdepth_r50_256x704.py']

train_pipeline, test_pipeline = camera.lifting_pipelines(
    (704, 256), 0.44, {{_base_.image_augmentation}}, bev=None
)
data = dict(samples_per_gpu=2, **camera.data(train_pipeline, test_pipeline, queue_length=4))
distiller = dict(
    type='Distiller',
    teacher=bevformer_base(),
    head=dict(init='teacher'),
    terms=dict(
        bev_generation=dict(
            type='MaskedGeneration',
            on='bev',
            connector='resize_conv',
            region=dict(type='BEVFootprint', source='both'),
            weight=4.0,
        ),
        bev_focal=dict(
            type='FocalPositions', on='bev', connector='resize_conv', compare='values', weight=4.0
        ),
    ),
)

# The pint-sized teacher of 2D detectors: GFL on 256x160 images of the synthetic world in COCO's layout, made by
# tools/create_synthetic.py --format coco --out data/synthetic_coco --scenes 300 --size 256x160.
from projects.configs._base_ import camera, coco

_base_ = ['../_base_/default_runtime.py']

data_root = 'data/synthetic_coco/'
class_names = camera.CLASSES
data = coco.data(data_root, class_names, scale=(256, 160), samples_per_gpu=8, workers_per_gpu=0)
model = coco.gfl(coco.fresh_resnet(18, 32), [32, 64, 128, 256], classes=10, channels=64, convs=2)

optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=10, norm_type=2))
lr_config = dict(
    policy='CosineAnnealing',
    by_epoch=False,
    warmup='linear',
    warmup_iters=50,
    warmup_ratio=0.1,
    min_lr_ratio=0.01,
)
runner = dict(max_epochs=12)
evaluation = dict(interval=12)

# What every DETR3D on nuScenes has: ten classes, six cameras, 51.2 m around the car.
from projects.configs._base_ import nuscenes

model = dict(
    type='DETR3D',
    pts_bbox_head=dict(
        type='DETR3DHead',
        num_classes=len(nuscenes.CLASSES),
        pc_range=nuscenes.RANGE,
        transformer=dict(type='DETR3DTransformer', num_cams=6),
        bbox_coder=dict(post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=0.25),
    ),
)

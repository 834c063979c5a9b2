# SECOND on KITTI, three classes: the 1x teacher of PointDistiller. Voxels of 0.05 m, sparse 3D convolutions.
# Students are this file at another width: second_kitti_{2,4,8,16}x.py.
from projects.configs._base_ import kitti

_base_ = ['./pointpillars_kitti.py']

point_cloud_range = kitti.RANGE
_ranges = [[0, -40.0, z, 70.4, 40.0, z] for z in (-0.6, -0.6, -1.78)]
_iou = dict(type='MaxIoUAssigner', iou_calculator=dict(type='BboxOverlapsNearest3D'), ignore_iof_thr=-1)
_small = dict(pos_iou_thr=0.35, neg_iou_thr=0.2, min_pos_iou=0.2, **_iou)
_large = dict(pos_iou_thr=0.6, neg_iou_thr=0.45, min_pos_iou=0.45, **_iou)

_range = dict(point_cloud_range=point_cloud_range)
data = dict(
    train=dict(pipeline={{_base_.train_pipeline}}, **_range),  # the dataset's own, which moves single objects
    val=_range,
    test=_range,
)

model = dict(
    voxel_layer=dict(
        voxel_size=[0.05, 0.05, 0.1],
        point_cloud_range=point_cloud_range,
        max_num_points=5,
    ),
    voxel_encoder=dict(_delete_=True, type='HardSimpleVFE'),
    middle_encoder=dict(
        _delete_=True,
        type='SparseEncoder',
        in_channels=4,
        sparse_shape=[41, 1600, 1408],
        base_channels=16,
        output_channels=128,
        encoder_channels=((16,), (32, 32, 32), (64, 64, 64), (64, 64, 64)),
        encoder_paddings=((1,), (1, 1, 1), (1, 1, 1), ((0, 1, 1), 1, 1)),
        order=('conv', 'norm', 'act'),
    ),
    backbone=dict(in_channels=256, out_channels=[128, 256], layer_nums=[5, 5], layer_strides=[1, 2]),
    neck=dict(in_channels=[128, 256], out_channels=[256, 256], upsample_strides=[1, 2]),
    bbox_head=dict(
        in_channels=512,
        feat_channels=512,
        assign_per_class=False,
        anchor_generator=dict(type='Anchor3DRangeGenerator', ranges=_ranges),
    ),
    train_cfg=dict(assigner=[_small, _small, _large]),
)
optimizer = dict(lr=1.8e-3)
optimizer_config = dict(grad_clip=dict(max_norm=10))
runner = dict(max_epochs=40)

# The scaled-down twin of pointpillars_kitti.py: learns on a CPU core in minutes, on the synthetic KITTI world or on any
# folder in KITTI's layout. 112 x 112 pillars of 0.32 m before the car, half the widths, two stages, anchors on every
# second pillar.
from projects.configs._base_ import kitti

_base_ = ['../lidar/pointpillars_kitti.py']

point_cloud_range = kitti.NEAR
_voxel = [0.32, 0.32, 4]
_ranges = [[*point_cloud_range[:2], z, *point_cloud_range[3:5], z] for z in (-0.6, -0.6, -1.78)]

train_pipeline = kitti.training(
    {{_base_.load_points}},
    *kitti.whole_near_frame(),
    point_cloud_range=point_cloud_range,
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
)
_range = dict(point_cloud_range=point_cloud_range)
_truth = dict(truth_in_range=True, **_range)  # half of KITTI's objects are further away than 36 m
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, **_range),
    val=_truth,
    test=_truth,
)

# Cells of 0.64 m are larger than a pedestrian: small anchors match earlier than on KITTI, an object's best one almost always.
_iou = dict(type='MaxIoUAssigner', iou_calculator=dict(type='BboxOverlapsNearest3D'), ignore_iof_thr=-1)
_small = dict(pos_iou_thr=0.4, neg_iou_thr=0.25, min_pos_iou=0.15, **_iou)
_large = dict(pos_iou_thr=0.6, neg_iou_thr=0.45, min_pos_iou=0.45, **_iou)
# Runs are short: with the hosts' momentum of 0.01, running means and variances would lag behind the weights.
_norm = dict(eps=1e-3, momentum=0.1)
model = dict(
    voxel_layer=dict(
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        max_num_points=16,
        max_voxels=(6000, 6000),
    ),
    voxel_encoder=dict(
        feat_channels=[32],
        voxel_size=_voxel,
        point_cloud_range=point_cloud_range,
        norm_cfg=dict(type='BN1d', **_norm),
    ),
    middle_encoder=dict(in_channels=32, output_shape=[112, 112]),
    backbone=dict(
        in_channels=32,
        out_channels=[48, 96],
        layer_nums=[3, 3],
        layer_strides=[2, 2],
        norm_cfg=dict(type='BN', **_norm),
    ),
    neck=dict(
        in_channels=[48, 96],
        out_channels=[64, 64],
        upsample_strides=[1, 2],
        norm_cfg=dict(type='BN', **_norm),
    ),
    train_cfg=dict(assigner=[_small, _small, _large]),
    bbox_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(ranges=_ranges)),
)

optimizer = dict(lr=4e-4)  # rises to 4e-3
runner = dict(max_epochs=10)
evaluation = dict(interval=10)
log_config = dict(interval=20)

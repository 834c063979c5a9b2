# KITTI for LiDAR detectors, as mmdet3d trains them. `data_root` is the only path: files are looked up below it, and
# `--data-root DIR` on every tool replaces it. Make them with: python tools/create_data.py kitti --root-path DIR
from projects.configs._base_ import kitti

dataset_type = 'KittiFrames'
data_root = 'data/kitti/'
class_names = ['Pedestrian', 'Cyclist', 'Car']
point_cloud_range = kitti.RANGE
meta_keys = ('sample_idx', 'pts_filename', 'box_type_3d', 'box_mode_3d', 'lidar2img', 'pc_range')

load_points = dict(type='LoadPoints', coord_type='LIDAR', load_dim=4, use_dim=4)
object_sample = kitti.paste(
    data_root + 'kitti_dbinfos_train.pkl',
    load_points,
    class_names,
    dict(Car=5, Pedestrian=10, Cyclist=10),
    dict(Car=12, Pedestrian=6, Cyclist=6),
)
object_noise = dict(
    type='ObjectNoise',
    num_try=100,
    translation_std=[1.0, 1.0, 0.5],
    global_rot_range=[0.0, 0.0],
    rot_range=[-0.78539816, 0.78539816],
)
train_pipeline = kitti.training(
    load_points,
    object_sample,
    object_noise,
    *kitti.whole_frame(),
    point_cloud_range=point_cloud_range,
    class_names=class_names,
    meta_keys=meta_keys,
)
test_pipeline = kitti.testing(
    load_points,
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    class_names=class_names,
    meta_keys=meta_keys,
)

frames = dict(
    type=dataset_type,
    data_root=data_root,
    classes=class_names,
    point_cloud_range=point_cloud_range,
)
data = dict(
    samples_per_gpu=6,
    workers_per_gpu=4,
    train=dict(**frames, ann_file='kitti_infos_train.pkl', pipeline=train_pipeline, test_mode=False),
    val=dict(**frames, ann_file='kitti_infos_val.pkl', pipeline=test_pipeline, test_mode=True),
    test=dict(**frames, ann_file='kitti_infos_val.pkl', pipeline=test_pipeline, test_mode=True),
)

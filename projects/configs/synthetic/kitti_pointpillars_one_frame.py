# Overfit the scaled-down PointPillars to one frame, the shortest proof that points, targets and evaluation agree:
#   tools/train.py THIS --data-root FOLDER_WITH_ONE_FRAME
# It is evaluated on the frame that it trains on, without augmentation; an epoch shows the frame 40 times.
from projects.configs._base_ import kitti

_base_ = ['./kitti_pointpillars_teacher.py']

point_cloud_range = {{_base_.point_cloud_range}}
train_pipeline = kitti.training(
    {{_base_.load_points}},
    point_cloud_range=point_cloud_range,
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
    shuffle=False,
)
_frame = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='kitti_infos_train.pkl',
    pipeline=train_pipeline,
    classes={{_base_.class_names}},
    point_cloud_range=point_cloud_range,
)
_same_frame = dict(ann_file='kitti_infos_train.pkl')
data = dict(
    samples_per_gpu=1,
    train=dict(_delete_=True, type='RepeatDataset', times=40, dataset=_frame),
    val=_same_frame,
    test=_same_frame,
)
runner = dict(max_epochs=3)
evaluation = dict(interval=3)
checkpoint_config = dict(interval=3)

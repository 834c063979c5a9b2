# All labels, and objects of other frames pasted in: the upper bound of the family of sparse labels. Where labels are few,
# pasted objects are most of what there is to learn from, so every row of the family has them.
from projects.configs._base_ import kitti, sparse_labels

_base_ = ['./kitti_pointpillars_teacher.py']

train_pipeline = kitti.training(
    {{_base_.load_points}},
    *sparse_labels.pint_augmentations(
        'kitti_dbinfos_train.pkl', {{_base_.load_points}}, {{_base_.class_names}}
    ),
    point_cloud_range={{_base_.point_cloud_range}},
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
)
data = dict(train=dict(pipeline=train_pipeline))

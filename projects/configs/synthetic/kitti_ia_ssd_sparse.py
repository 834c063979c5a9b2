# One label in every third frame for the scaled-down IA-SSD, the detector of SS3D; see kitti_sparse.py.
from projects.configs._base_ import kitti, sparse_labels

_base_ = ['./kitti_ia_ssd.py']

_split = 'sparse1_every3_s0'
train_pipeline = kitti.training(
    {{_base_.load_points}},
    *sparse_labels.pint_augmentations(
        f'kitti_dbinfos_train_{_split}.pkl', {{_base_.load_points}}, {{_base_.class_names}}
    ),
    point_cloud_range={{_base_.point_cloud_range}},
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
    sample=dict(type='SamplePoints', number=4096, far=25.0),
)
data = dict(
    train=sparse_labels.repeated(
        3,
        type={{_base_.dataset_type}},
        ann_file=f'kitti_infos_train_{_split}.pkl',
        pipeline=train_pipeline,
        classes={{_base_.class_names}},
        point_cloud_range={{_base_.point_cloud_range}},
    )
)
self_training = sparse_labels.self_training(
    f'kitti_{_split}.json', iterations=2, rotate=0.39, start='scratch', epochs=None
)

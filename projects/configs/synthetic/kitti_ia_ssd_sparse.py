# One label in every third frame for the scaled-down IA-SSD, the detector of SS3D; see kitti_sparse.py.
from projects.configs._base_ import sparse_labels

_base_ = ['./kitti_ia_ssd.py']

_split = 'sparse1_every3_s0'
train_pipeline = sparse_labels.pint_pipeline(
    _split,
    {{_base_.load_points}},
    {{_base_.class_names}},
    {{_base_.meta_keys}},
    sample={{_base_._sample}},
)
data = sparse_labels.pint_data(_split, train_pipeline, {{_base_.class_names}}, {{_base_.dataset_type}})
self_training = sparse_labels.self_training(
    f'kitti_{_split}.json', iterations=2, rotate=0.39, start='scratch', epochs=None
)

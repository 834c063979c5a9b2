# One label in every third frame:
#   tools/create_data.py kitti --root-path DIR --sparse 1 --every 3 --seed 0 --area 0 -17.92 35.84 17.92
# tools/train.py trains on it; tools/self_train.py goes on from there and mines what is missing, twice. An epoch repeats
# the frames that have labels until it is as long as with all labels.
from projects.configs._base_ import sparse_labels

_base_ = ['./kitti_pointpillars_teacher.py']

_split = 'sparse1_every3_s0'
train_pipeline = sparse_labels.pint_pipeline(
    _split,
    {{_base_.load_points}},
    {{_base_.class_names}},
    {{_base_.meta_keys}},
)
data = sparse_labels.pint_data(_split, train_pipeline, {{_base_.class_names}}, {{_base_.dataset_type}})
self_training = sparse_labels.self_training(
    f'kitti_{_split}.json', iterations=2, rotate=0.39, start='scratch', epochs=None
)

# One label per frame of KITTI for IA-SSD, the detector of SS3D:
#   tools/create_data.py kitti --root-path DIR --sparse 1 --seed 0
#   tools/self_train.py ia_ssd_kitti_sparse.py --data-root DIR --processes 8
# tools/self_train.py gives the first training the labels of the split; tools/train.py would take all of them. Views turn as
# far as training does.
from projects.configs._base_ import sparse_labels

_base_ = ['../ia_ssd_kitti.py']

self_training = sparse_labels.self_training(
    'kitti_sparse1_s0.json', iterations=3, rotate=0.78, start='previous', epochs=20
)

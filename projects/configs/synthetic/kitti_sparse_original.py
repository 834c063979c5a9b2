# SS3D as it was published: one high threshold for all classes and for both views, a bank that never gives up what it has,
# mined objects that fill the holes of other scenes and are no labels of their own.
from projects.configs._base_ import sparse_labels

_base_ = ['./kitti_sparse.py']

self_training = sparse_labels.original()

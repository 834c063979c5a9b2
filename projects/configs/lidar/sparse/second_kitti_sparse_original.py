# SS3D's own rules on SECOND: one high threshold for all classes and both views, ten rounds of six epochs, a bank that never
# gives up what it has, mined objects that fill the holes of other scenes and are no labels of their own.
from projects.configs._base_ import sparse_labels

_base_ = ['./second_kitti_sparse.py']

self_training = sparse_labels.original(iterations=10, epochs=6)

# Two rounds of mining by a detector with a second stage, which learns from the same labels and banks and is given away in
# the end.
_base_ = ['./kitti_sparse.py']

self_training = dict(labeller='projects/configs/synthetic/kitti_sparse_two_stage.py')

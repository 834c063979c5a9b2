# No object is mined: only the points of all that the first detector sees beside the labels are removed.
_base_ = ['./kitti_sparse.py']

self_training = dict(iterations=1, mine=dict(score=1.1))

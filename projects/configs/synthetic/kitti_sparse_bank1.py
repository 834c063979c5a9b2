# One round of mining with thresholds from the scores of labelled objects.
_base_ = ['./kitti_sparse.py']

self_training = dict(iterations=1)

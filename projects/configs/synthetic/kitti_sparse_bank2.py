# Two rounds of mining with thresholds from the scores of labelled objects.
_base_ = ['./kitti_sparse.py']

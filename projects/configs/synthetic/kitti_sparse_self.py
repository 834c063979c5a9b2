# Sparse labels and a detector that teaches itself: every training of tools/self_train.py trains a second stage beside the
# detector that mines, which teaches it.
from projects.configs._base_ import roi_heads
from projects.configs._base_.recipes import self_taught

_base_ = ['./kitti_sparse.py']

_head = roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48))
distiller = self_taught('all', epochs=10, roi_head=_head)

# SECOND teaches itself: the log's second run, one second stage without classes. Not trained here.
from projects.configs._base_ import roi_heads
from projects.configs._base_.recipes import self_taught

_base_ = ['../second_kitti.py']

_head = roi_heads.voxel_rcnn({{_base_.point_cloud_range}}, [0.05, 0.05, 0.1])
distiller = self_taught('roi', epochs=40, roi_head=_head)

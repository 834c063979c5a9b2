# The scaled-down twin of lidar/distill/self_pointpillars_kitti_cotrain.py: ablation, the second stage is trained along and teaches nothing by itself.
from projects.configs._base_ import roi_heads
from projects.configs._base_.recipes import self_taught

_base_ = ['./kitti_self_student.py']

_head = roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48))
distiller = self_taught('cotrain', epochs=6, roi_head=_head)

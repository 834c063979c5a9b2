# PointPillars teaches itself: everything on. Not trained here.
from projects.configs._base_ import roi_heads
from projects.configs._base_.recipes import self_taught

_base_ = ['../pointpillars_kitti.py']

_head = roi_heads.full({{_base_.point_cloud_range}}, dict(scatter=64, stage_0=64))
distiller = self_taught('all', epochs=80, roi_head=_head)

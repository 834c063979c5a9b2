# Overfit the scaled-down PointPillars that teaches itself to one frame, as kitti_pointpillars_one_frame.py does without:
#   tools/distillation.py THIS --data-root FOLDER_WITH_ONE_FRAME
from projects.configs._base_ import roi_heads
from projects.configs._base_.recipes import self_taught

_base_ = ['./kitti_pointpillars_one_frame.py']

_head = roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48))
distiller = self_taught('all', epochs=3, roi_head=_head)

# Overfit both stages to one frame, as kitti_pointpillars_one_frame.py does with one.
from projects.configs._base_ import roi_heads

_base_ = ['./kitti_pointpillars_one_frame.py']

model = dict(
    type='TwoStageVoxelNet',
    roi_head=roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48)),
)

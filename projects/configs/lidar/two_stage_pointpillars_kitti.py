# PointPillars on KITTI with a second stage on its BEV maps and the raw points. Not trained here.
from projects.configs._base_ import roi_heads

_base_ = ['./pointpillars_kitti.py']

model = dict(
    type='TwoStageVoxelNet',
    roi_head=roi_heads.full({{_base_.point_cloud_range}}, dict(scatter=64, stage_0=64)),
)

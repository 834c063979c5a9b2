# CenterPoint on nuScenes with a second stage on its BEV maps and the raw points of ten sweeps, each of which knows its
# intensity and its age. Velocities stay the first stage's. Not trained here.
from projects.configs._base_ import roi_heads

_base_ = ['./centerpoint_pillar_nuscenes.py']

model = dict(
    type='TwoStageCenterPoint',
    roi_head=roi_heads.full({{_base_.point_cloud_range}}, dict(scatter=64, stage_0=64), extras=2),
)

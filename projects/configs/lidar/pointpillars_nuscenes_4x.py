# PointPillars on nuScenes at half of all widths: the 4x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./pointpillars_nuscenes.py']

model = widths.pointpillars_nuscenes(1 / 2)

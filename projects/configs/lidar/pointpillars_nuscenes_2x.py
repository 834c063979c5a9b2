# PointPillars on nuScenes at 1/sqrt(2) of all widths: the 2x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./pointpillars_nuscenes.py']

model = widths.pointpillars_nuscenes(2**-0.5)

# PointPillars at a quarter of all widths: 0.3 M parameters, the 16x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./pointpillars_kitti.py']

model = widths.pointpillars(1 / 4)

# PointPillars at half of all widths: 1.3 M parameters, the 4x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./pointpillars_kitti.py']

model = widths.pointpillars(1 / 2)

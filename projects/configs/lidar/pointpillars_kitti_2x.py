# PointPillars at 1/sqrt(2) of all widths: half the parameters.
from projects.configs._base_ import widths

_base_ = ['./pointpillars_kitti.py']

model = widths.pointpillars(2**-0.5)

# PointPillars at 1/sqrt(8) of all widths: an eighth of the parameters.
from projects.configs._base_ import widths

_base_ = ['./pointpillars_kitti.py']

model = widths.pointpillars(8**-0.5)

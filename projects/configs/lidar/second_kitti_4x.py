# SECOND at half of all widths: the 4x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./second_kitti.py']

model = widths.second(1 / 2)

# SECOND at a quarter of all widths: the 16x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./second_kitti.py']

model = widths.second(1 / 4)

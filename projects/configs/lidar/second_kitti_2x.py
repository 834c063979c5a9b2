# SECOND at 1/sqrt(2) of all widths: half the parameters.
from projects.configs._base_ import widths

_base_ = ['./second_kitti.py']

model = widths.second(2**-0.5)

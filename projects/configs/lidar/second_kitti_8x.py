# SECOND at 1/sqrt(8) of all widths: an eighth of the parameters.
from projects.configs._base_ import widths

_base_ = ['./second_kitti.py']

model = widths.second(8**-0.5)

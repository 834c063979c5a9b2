# PointRCNN at 1/sqrt(2) of all widths: half the parameters.
from projects.configs._base_ import widths

_base_ = ['./point_rcnn_kitti.py']

model = widths.point_rcnn(2**-0.5)

# PointRCNN at 1/sqrt(8) of all widths: the 8x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./point_rcnn_kitti.py']

model = widths.point_rcnn(8**-0.5)

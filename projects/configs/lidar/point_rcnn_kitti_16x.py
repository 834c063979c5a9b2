# PointRCNN at a quarter of all widths: the 16x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./point_rcnn_kitti.py']

model = widths.point_rcnn(1 / 4)

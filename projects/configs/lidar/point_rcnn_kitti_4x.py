# PointRCNN at half of all widths: the 4x student of PointDistiller.
from projects.configs._base_ import widths

_base_ = ['./point_rcnn_kitti.py']

model = widths.point_rcnn(1 / 2)

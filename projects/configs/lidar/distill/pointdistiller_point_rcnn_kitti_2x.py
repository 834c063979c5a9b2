# PointDistiller: PointRCNN teaches its 2x student, a ratio that the paper does not report.
_base_ = ['../point_rcnn_kitti_2x.py', '../../_base_/distill/pointdistiller_point_rcnn.py']

distiller = dict(terms=dict(local=dict(width=90)))

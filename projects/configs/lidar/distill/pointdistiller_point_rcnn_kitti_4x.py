# PointDistiller: PointRCNN teaches a student of half its widths, a ratio that the paper does not report.
_base_ = ['../point_rcnn_kitti_4x.py', '../../_base_/distill/pointdistiller_point_rcnn.py']

distiller = dict(terms=dict(local=dict(width=64)))

# PointDistiller: PointRCNN teaches its 16x student (published: 67.7 -> 69.0 3D mAP R40 moderate).
_base_ = ['../point_rcnn_kitti_16x.py', '../../_base_/distill/pointdistiller_point_rcnn.py']

distiller = dict(terms=dict(local=dict(width=32)))

# PointDistiller: PointRCNN teaches its 8x student (published: 68.6 -> 69.6 3D mAP R40 moderate).
_base_ = ['../point_rcnn_kitti_8x.py', '../../_base_/distill/pointdistiller_point_rcnn.py']

distiller = dict(terms=dict(local=dict(width=45)))

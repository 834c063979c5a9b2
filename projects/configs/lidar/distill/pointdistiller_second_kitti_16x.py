# PointDistiller: SECOND teaches its 16x student (published: 59.7 -> 62.6 3D mAP R40 moderate).
_base_ = ['../second_kitti_16x.py', '../../_base_/distill/pointdistiller_second_kitti.py']

distiller = dict(terms=dict(local=dict(k=128, width=16)))

# PointDistiller: PointPillars teaches its 16x student (published: 53.5 -> 54.9 3D mAP R40 moderate).
_base_ = ['../pointpillars_kitti_16x.py', '../../_base_/distill/pointdistiller_pointpillars_kitti.py']

distiller = dict(terms=dict(local=dict(width=16)))

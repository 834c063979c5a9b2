# PointDistiller: PointPillars teaches its 4x student (published: 58.7 -> 62.1 3D mAP R40 moderate).
_base_ = ['../pointpillars_kitti_4x.py', '../../_base_/distill/pointdistiller_pointpillars_kitti.py']

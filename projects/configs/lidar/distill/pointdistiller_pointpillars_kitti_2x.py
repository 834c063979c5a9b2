# PointDistiller: PointPillars teaches its 2x student, a ratio that the paper does not report.
_base_ = ['../pointpillars_kitti_2x.py', '../../_base_/distill/pointdistiller_pointpillars_kitti.py']

# PointDistiller: PointPillars teaches its 8x student, a ratio that the paper does not report.
_base_ = ['../pointpillars_kitti_8x.py', '../../_base_/distill/pointdistiller_pointpillars_kitti.py']

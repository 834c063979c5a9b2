# PointDistiller: SECOND teaches its 2x student, a ratio that the paper does not report.
_base_ = ['../second_kitti_2x.py', '../../_base_/distill/pointdistiller_second_kitti.py']

# PointDistiller: SECOND teaches its 8x student, a ratio that the paper does not report.
_base_ = ['../second_kitti_8x.py', '../../_base_/distill/pointdistiller_second_kitti.py']

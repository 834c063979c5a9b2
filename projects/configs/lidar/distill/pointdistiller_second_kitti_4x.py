# PointDistiller: SECOND teaches its 4x student (published: 64.7 -> 66.2 3D mAP R40 moderate).
_base_ = ['../second_kitti_4x.py', '../../_base_/distill/pointdistiller_second_kitti.py']

# PointDistiller: PointPillars on nuScenes teaches its 2x student (published: 36.0 -> 36.7 mAP).
_base_ = ['../pointpillars_nuscenes_2x.py', '../../_base_/distill/pointdistiller_pointpillars_nuscenes.py']

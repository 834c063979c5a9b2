# PointDistiller: PointPillars on nuScenes teaches its 4x student (published: 32.2 -> 32.8 mAP).
_base_ = ['../pointpillars_nuscenes_4x.py', '../../_base_/distill/pointdistiller_pointpillars_nuscenes.py']

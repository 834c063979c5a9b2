# centerpoint_pillar_nuscenes.py whose heads fit BEVDepth: they read a map of 256 channels instead of 384, in the same cells of
# 0.8 m.
_base_ = ['./centerpoint_pillar_nuscenes.py']

model = dict(pts_neck=dict(out_channels=[64, 64, 128]), pts_bbox_head=dict(in_channels=256))

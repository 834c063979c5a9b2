# DistillBEV on the pint-sized BEVFormer: it starts from the head of a LiDAR teacher and learns to make the map that this head
# reads, region by region; maps are compared as they are, since the head takes them so.
from projects.configs._base_.recipes import lidar_row

_base_ = ['./cross_near_distill_lidarformer_inherit.py']

distiller = lidar_row('regions', regions=dict(heat='boxes', connector='resize'))

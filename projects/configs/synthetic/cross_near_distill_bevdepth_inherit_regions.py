# DistillBEV on the pint-sized BEVDepth: it starts from the centre heads of a LiDAR teacher and learns to make the map that they
# read, region by region; maps are compared as they are, since the heads take them so.
from projects.configs._base_.recipes import lidar_row

_base_ = ['./cross_near_distill_bevdepth_inherit.py']

distiller = lidar_row('regions', regions=dict(attention='both', connector='resize'))

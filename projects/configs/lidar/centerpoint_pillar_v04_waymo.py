from projects.configs._base_ import widths

_base_ = ['./centerpoint_pillar_waymo.py']

point_cloud_range = [-73.6, -73.6, -2, 73.6, 73.6, 4]
model = widths.centerpoint_grid(pillar=0.4, pillars=368, max_num_points=28)

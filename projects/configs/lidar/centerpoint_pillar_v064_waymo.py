from projects.configs._base_ import widths

_base_ = ['./centerpoint_pillar_waymo.py']

point_cloud_range = [-74.24, -74.24, -2, 74.24, 74.24, 4]
model = widths.centerpoint_grid(pillar=0.64, pillars=232, max_num_points=50)

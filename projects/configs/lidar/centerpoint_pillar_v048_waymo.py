from projects.configs._base_ import widths

_base_ = ['./centerpoint_pillar_waymo.py']

point_cloud_range = [-74.88, -74.88, -2, 74.88, 74.88, 4]
model = widths.centerpoint_grid(pillar=0.48, pillars=312, max_num_points=36)

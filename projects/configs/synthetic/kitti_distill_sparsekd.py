# The scaled-down twin of lidar/distill/sparsekd_cp_voxel_s.py without label distillation and initialisation: the first of
# three steps, each of which adds one part. Weights are three and ten times the published ones, which gained less in a
# schedule as short as this: benchmarks/kd_gain_lidar_tuning.md.
from projects.configs._base_.recipes import frozen

_base_ = ['./kitti_centerpoint_student.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/synthetic/kitti_centerpoint_teacher.py'),
    terms=[
        dict(type='PivotalLogit', name='logit', on='heads', mask='gaussian', min_radius=1, weight=30.0),
        dict(type='CenterRegression', name='regression', on='heads', weight=2.0),
    ],
)

# SparseKD: CP-Voxel teaches CP-Voxel-XXS class logits at pivotal positions and boxes at object centres.
# With label distillation and initialisation (_label_tgi.py) published as 56.26 -> 59.28 L2 mAPH on a fifth of Waymo.
_base_ = ['../centerpoint_voxel_xxs_waymo.py']

_range = {{_base_.point_cloud_range}}
distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/centerpoint_voxel_waymo.py',
        checkpoint='work_dirs/centerpoint_voxel_waymo/latest.pth',
        view='same',
    ),
    terms=[
        dict(type='PivotalLogit', name='logit', on='heads', mask='gaussian', pc_range=_range, weight=15.0),
        dict(type='CenterRegression', name='regression', on='heads', pc_range=_range, weight=0.2),
    ],
)

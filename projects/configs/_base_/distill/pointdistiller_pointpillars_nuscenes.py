# PointDistiller on nuScenes pillars as its recipes inherit it: the 256 cells with the largest activation of the teacher
# on the neck's finest level, K = 128. They add the student.
# Published without effective weights: reweighting='none' is exactly that.
distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/pointpillars_nuscenes.py',
        checkpoint='work_dirs/pointpillars_nuscenes/latest.pth',
        view='same',
    ),
    terms=dict(
        local=dict(
            type='LocalGraph', on='pts_neck.fpn_convs.0', num_query=256, k=128, width=64, tau=0.5, weight=2.0
        ),
    ),
)

# PointDistiller: PointPillars on nuScenes teaches its 2x student (published: 36.0 -> 36.7 mAP).
# The 256 cells with the largest activation of the teacher on the neck's finest level, K = 128.
# Published without effective weights: reweighting='none' is exactly that.
_base_ = ['../pointpillars_nuscenes_2x.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/pointpillars_nuscenes.py',
        checkpoint='work_dirs/pointpillars_nuscenes/latest.pth',
        view='same',
    ),
    terms=[
        dict(
            type='LocalGraph',
            name='local',
            on='pts_neck.fpn_convs.0',
            num_query=256,
            k=128,
            width=64,
            tau=0.5,
            weight=2.0,
        )
    ],
)

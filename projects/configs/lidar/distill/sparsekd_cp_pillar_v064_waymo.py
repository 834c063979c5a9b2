# SparseKD: CP-Pillar teaches CP-Pillar-v0.64 class logits at pivotal positions, looked up in metres on the finer heatmap.
# With label distillation and initialisation (_label_tgi.py) published as 52.81 -> 55.82 L2 mAPH on a fifth of Waymo.
_base_ = ['../centerpoint_pillar_v064_waymo.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/centerpoint_pillar_waymo.py',
        checkpoint='work_dirs/centerpoint_pillar_waymo/latest.pth',
        view='same',
    ),
    terms=[
        dict(
            type='PivotalLogit',
            name='logit',
            on='heads',
            mask='gaussian',
            pc_range={{_base_.point_cloud_range}},
            teacher_range=[-74.88, -74.88, -2, 74.88, 74.88, 4],
            weight=7.0,
        )
    ],
)

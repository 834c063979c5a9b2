# The pint-sized twin of lidar/distill/pointdistiller_pointpillars_kitti_4x.py: on pillars, as published.
_base_ = ['./kitti_pointpillars_student_4x.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/synthetic/kitti_pointpillars_teacher.py',
        checkpoint='work_dirs/kitti_pointpillars_teacher/latest.pth',
        view='same',
    ),
    terms=[
        dict(
            type='LocalGraph',
            name='local',
            on='voxels',
            num_query=512,
            k=32,
            width=16,
            tau=0.5,
            # Trained along, both adapters agree on one direction within a dozen steps, and teach nothing more.
            train_teacher_adapter=False,
            weight=2.0,
        )
    ],
)

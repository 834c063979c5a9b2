# PointDistiller: SECOND teaches a student of half its widths (published: 64.7 -> 66.2 3D mAP R40 moderate).
# The 256 cells with the largest activation of the teacher, in both stages of the 2D backbone, K = 256 as its README says.
# Published without effective weights, whatever its temperature: reweighting='none' is exactly that.
_base_ = ['../second_kitti_4x.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/second_kitti.py',
        checkpoint='work_dirs/second_kitti/latest.pth',
        view='same',
    ),
    terms=[
        dict(
            type='LocalGraph',
            name='local',
            on='backbone',
            num_query=256,
            k=256,
            width=32,
            tau=0.5,
            weight=2.0,
        )
    ],
)

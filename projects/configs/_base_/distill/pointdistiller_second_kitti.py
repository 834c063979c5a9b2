# PointDistiller on SECOND as its recipes inherit it: the 256 cells with the largest activation of the teacher, in both
# stages of the 2D backbone, K = 256 as its README says. They add the student.
# Published without effective weights, whatever its temperature: reweighting='none' is exactly that.
distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/second_kitti.py',
        checkpoint='work_dirs/second_kitti/latest.pth',
        view='same',
    ),
    terms=dict(
        local=dict(type='LocalGraph', on='backbone', num_query=256, k=256, width=32, tau=0.5, weight=2.0),
    ),
)

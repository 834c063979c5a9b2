# PointDistiller on PointRCNN as its recipes inherit it: the 6000 points with the largest activation of the teacher; of
# each one's 128 edges the largest per channel. They add the student and the width of the adapters.
# Published without effective weights: reweighting='none' is exactly that.
distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/point_rcnn_kitti.py',
        checkpoint='work_dirs/point_rcnn_kitti/latest.pth',
        view='same',
    ),
    terms=dict(
        local=dict(type='LocalGraph', on='points', num_query=6000, k=128, tau=0.5, pool=True, weight=2.0),
    ),
)

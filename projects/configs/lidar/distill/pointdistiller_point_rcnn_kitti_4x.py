# PointDistiller: PointRCNN teaches a student of half its widths, a ratio that the paper does not report.
# The 6000 points with the largest activation of the teacher; of each one's 128 edges the largest per channel.
# Published without effective weights: reweighting='none' is exactly that.
_base_ = ['../point_rcnn_kitti_4x.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/lidar/point_rcnn_kitti.py',
        checkpoint='work_dirs/point_rcnn_kitti/latest.pth',
        view='same',
    ),
    terms=[
        dict(
            type='LocalGraph',
            name='local',
            on='points',
            num_query=6000,
            k=128,
            width=64,
            tau=0.5,
            pool=True,
            weight=2.0,
        )
    ],
)

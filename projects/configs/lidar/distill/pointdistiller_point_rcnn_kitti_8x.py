# PointDistiller: PointRCNN teaches its 8x student (published: 68.6 -> 69.6 3D mAP R40 moderate).
# The 6000 points with the largest activation of the teacher; of each one's 128 edges the largest per channel.
# Published without effective weights: reweighting='none' is exactly that.
_base_ = ['../point_rcnn_kitti_8x.py']

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
            width=45,
            tau=0.5,
            pool=True,
            weight=2.0,
        )
    ],
)

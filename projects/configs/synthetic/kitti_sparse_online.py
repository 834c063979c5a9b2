# Mining within the step, without a bank: the running average of the student labels the weak view, and the student learns on
# a strong one, from which the points of what the average is unsure of are taken out. Start it from a detector that knows the
# labels:
#   tools/distillation.py kitti_sparse_online.py --data-root DIR --cfg-options load_from=CKPT
_base_ = ['./kitti_sparse.py']

distiller = dict(
    type='Distiller',
    teacher=dict(type='EMATeacher', momentum=0.996),
    terms=[],
    targets=[
        dict(
            type='OnlineMining',
            score_thr=[0.31, 0.31, 0.4],  # Pedestrian, Cyclist, Car: what banks of such detectors find
            least_score=0.1,
            rotate=0.39,
            scale=(0.95, 1.05),
            flip=0.5,
        )
    ],
)

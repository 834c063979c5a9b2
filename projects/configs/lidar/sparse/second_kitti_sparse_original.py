# SS3D's own rules on SECOND: one high threshold for all classes and both views, ten rounds of six epochs, a bank that never
# gives up what it has, mined objects that fill the holes of other scenes and are no labels of their own.
_base_ = ['./second_kitti_sparse.py']

self_training = dict(
    iterations=10,
    mine=dict(
        score=0.9,
        both_scores=True,
        consistency=0.5,
        weight=0.6,
        least_score=0.1,
        least_points=1,
        keep='monotone',
    ),
    own_scene=False,
    fill=True,
    epochs=6,
)

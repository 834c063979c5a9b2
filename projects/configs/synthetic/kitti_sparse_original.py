# SS3D as it was published: one high threshold for all classes and for both views, a bank that never gives up what it has,
# mined objects that fill the holes of other scenes and are no labels of their own.
_base_ = ['./kitti_sparse.py']

self_training = dict(
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
)

# One label per frame of KITTI for SECOND:
#   tools/create_data.py kitti --root-path DIR --sparse 1 --seed 0
#   tools/self_train.py second_kitti_sparse.py --data-root DIR --processes 8
# tools/self_train.py gives the first training the labels of the split; tools/train.py would take all of them. Views turn as
# far as training does.
_base_ = ['../second_kitti.py']

self_training = dict(
    split='kitti_sparse1_s0.json',
    iterations=3,
    mine=dict(
        least_score=0.1,
        score='labels',
        between=0.5,
        consistency=0.5,
        rotate=0.78,
        scale=(0.95, 1.05),
        least_points=5,
    ),
    unsure='remove',
    own_scene=True,
    fill=False,
    start='previous',
    epochs=20,
    pretrained=None,
)

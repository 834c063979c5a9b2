# centerpoint_near_teacher.py with the cells (1.6 m) and the branches of the pint-sized BEVDepth, which may start from its heads.
_base_ = ['./centerpoint_near_teacher.py']

_cell = dict(out_size_factor=4)
model = dict(
    pts_neck=dict(upsample_strides=[0.5, 1]),
    pts_bbox_head=dict(separate_head=dict(head_conv=64), bbox_coder=_cell),
    train_cfg=dict(pts=_cell),
    test_cfg=dict(pts=_cell),
)

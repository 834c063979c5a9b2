# The scaled-down student of SparseKD: half of all widths of kitti_centerpoint_teacher.py, on the same pillars.
_base_ = ['./kitti_centerpoint_teacher.py']

model = dict(
    pts_voxel_encoder=dict(feat_channels=[16]),
    pts_middle_encoder=dict(in_channels=16),
    pts_backbone=dict(in_channels=16, out_channels=[24, 48]),
    pts_neck=dict(in_channels=[24, 48], out_channels=[32, 32]),
    pts_bbox_head=dict(
        in_channels=64,
        share_conv_channel=16,
        separate_head=dict(head_conv=16),
    ),
)

# Shorter than the teacher's, so that there is something to learn from it.
runner = dict(max_epochs=6)
evaluation = dict(interval=6)

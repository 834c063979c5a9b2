# The student of bevdepth_near_teacher.py: 128x64 images that show what the teacher sees, BEV 32x32 of 1.6 m, half its channels.
from projects.configs._base_ import camera

_base_ = ['./bevdepth_near_teacher.py']

_cell = dict(voxel_size=[0.4, 0.4, 8])
model = dict(
    backbone=dict(
        lift_splat=dict(cell=1.6, image_size=(64, 128)),
        img_neck=dict(out_channels=[8] * 4),
        depth_net=dict(in_channels=32, mid_channels=32),
        out_channels=16,
    ),
    head=dict(
        trunk=dict(in_channels=16, base_channels=16),
        neck=dict(in_channels=[16, 16, 32, 64]),
        bbox_coder=_cell,
    ),
    train_cfg=dict(grid_size=[128, 128, 1], **_cell),
    test_cfg=_cell,
)

train_pipeline, test_pipeline = camera.lifting_pipelines(
    (128, 64), (128, 72), None, bev=None, float32=False, pc_range={{_base_.point_cloud_range}}
)
data = camera.data(train_pipeline, test_pipeline)
runner = dict(max_epochs=2)
evaluation = dict(interval=2)

# Voxel R-CNN on KITTI, three classes: SECOND's first stage and the published head on its sparse voxels. The 2D backbone
# and the schedule are the paper's; not trained here.
from projects.configs._base_ import roi_heads

_base_ = ['./second_kitti.py']

model = dict(
    type='TwoStageVoxelNet',
    backbone=dict(out_channels=[64, 128], layer_nums=[5, 5], layer_strides=[1, 2]),
    neck=dict(in_channels=[64, 128], out_channels=[128, 128], upsample_strides=[1, 2]),
    bbox_head=dict(in_channels=256, feat_channels=256),
    roi_head=roi_heads.voxel_rcnn({{_base_.point_cloud_range}}, [0.05, 0.05, 0.1]),
)
data = dict(samples_per_gpu=2)  # on eight GPUs
optimizer = dict(lr=1e-3)  # rises to 0.01
runner = dict(max_epochs=80)

# kitti_sparse.py with a second stage that also sees the raw points: what it mines lies closer to the objects, so that it
# labels for smaller detectors (kitti_sparse_labeller.py).
from projects.configs._base_ import roi_heads

_base_ = ['./kitti_sparse.py']

model = dict(
    type='TwoStageVoxelNet',
    roi_head=roi_heads.pint({{_base_.point_cloud_range}}, dict(scatter=32, stage_0=48)),
)
runner = dict(max_epochs=6)  # as long as kd_gain.py trains those that it labels for at --scale cpu

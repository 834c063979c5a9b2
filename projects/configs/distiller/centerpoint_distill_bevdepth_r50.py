# A LiDAR teacher: CenterPoint with pillars teaches BEVDepth-R50, one key frame; both have the same six tasks and cells of
# 0.8 m. Depth is learnt from the same ten sweeps that the teacher sees, and BEV augmentation moves them with the boxes.
from projects.configs._base_ import camera
from projects.configs._base_.recipes import bevdepth_terms, frozen, heatmap_l2

_base_ = ['../bevdepth/bevdepth_r50_256x704.py']

_dims = [0, 1, 2, 3, 4]
train_pipeline, test_pipeline = camera.lifting_pipelines((704, 256), 0.44, {{_base_.image_augmentation}})
train_pipeline[1:2] = [
    dict(type='LoadPoints', coord_type='LIDAR', load_dim=5, use_dim=_dims),
    dict(type='LoadSweeps', sweeps_num=9, use_dim=_dims, pad_empty_sweeps=True, remove_close=True),
]
data = dict(samples_per_gpu=4, **camera.data(train_pipeline, test_pipeline, queue_length=1))
distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/lidar/centerpoint_pillar_nuscenes.py'),
    terms=bevdepth_terms() | dict(bev_l2=heatmap_l2(weight=1.0, connector='resize_conv')),
)

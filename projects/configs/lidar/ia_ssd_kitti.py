# IA-SSD on KITTI, three classes: the detector of SS3D. The published configuration: 16384 points, of which 4096 and 1024
# are spread evenly, then 512 and 256 are chosen by how central they are in objects.
from projects.configs._base_ import kitti

_base_ = [
    '../_base_/datasets/kitti.py',
    '../_base_/schedules/cyclic_80e.py',
    '../_base_/default_runtime.py',
]

point_cloud_range = {{_base_.point_cloud_range}}
_sample = dict(type='SamplePoints', number=16384, far=40.0)
_paste = kitti.paste(
    'data/kitti/kitti_dbinfos_train.pkl',
    {{_base_.load_points}},
    {{_base_.class_names}},
    dict(Car=5, Pedestrian=5, Cyclist=5),
    dict(Car=20, Pedestrian=15, Cyclist=15),
)
train_pipeline, test_pipeline = kitti.sampled_pipelines(
    {{_base_.load_points}},
    _paste,
    *kitti.whole_frame(),
    sample=_sample,
    point_cloud_range=point_cloud_range,
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
)
data = kitti.pipelines_of(train_pipeline, test_pipeline, samples_per_gpu=8)

model = dict(
    type='IASSD',
    point_cloud_range=point_cloud_range,
    backbone=dict(
        type='InstanceAwareNet',
        num_classes=3,
        stages=[
            dict(
                number=4096,
                sample='furthest',
                radii=(0.2, 0.8),
                neighbours=(16, 32),
                widths=((16, 16, 32), (32, 32, 64)),
                out_channels=64,
            ),
            dict(
                number=1024,
                sample='furthest',
                radii=(0.8, 1.6),
                neighbours=(16, 32),
                widths=((64, 64, 128), (64, 96, 128)),
                out_channels=128,
                confidence=128,
            ),
            dict(
                number=512,
                sample='centroid_aware',
                radii=(1.6, 4.8),
                neighbours=(16, 32),
                widths=((128, 128, 256), (128, 256, 256)),
                out_channels=256,
                confidence=256,
            ),
            dict(number=256, sample='centroid_aware'),
        ],
    ),
    bbox_head=dict(
        type='CentroidHead',
        num_classes=3,
        in_channels=256,
        context_channels=256,
        shift_channels=128,
        max_shift=(3.0, 3.0, 2.0),
        aggregation=dict(
            radii=(4.8, 6.4),
            neighbours=(16, 32),
            widths=((256, 256, 512), (256, 512, 1024)),
            out_channels=512,
        ),
        hidden=(256, 256),
        bins=12,
        mean_sizes=[[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]],  # in the order of the classes
        losses=dict(margin=0.2, context=1.0, compactness=0.0, direction=0.2),
    ),
    test_cfg=dict(score_thr=0.1, nms_thr=0.01, nms_pre=4096, max_num=500),
)
optimizer = dict(lr=1e-3)  # rises to 0.01
optimizer_config = dict(grad_clip=dict(max_norm=10))

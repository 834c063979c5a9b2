# The scaled-down twin of ia_ssd_kitti.py: 4096 points in front of the car, an eighth of the neighbourhoods' widths.
from projects.configs._base_ import kitti

_base_ = ['../lidar/ia_ssd_kitti.py']

point_cloud_range = kitti.NEAR
_sample = dict(type='SamplePoints', number=4096, far=25.0)
train_pipeline, test_pipeline = kitti.sampled_pipelines(
    {{_base_.load_points}},
    *kitti.whole_near_frame(),
    sample=_sample,
    point_cloud_range=point_cloud_range,
    class_names={{_base_.class_names}},
    meta_keys={{_base_.meta_keys}},
)
_range = dict(point_cloud_range=point_cloud_range)
_test = dict(truth_in_range=True, pipeline=test_pipeline, **_range)  # as the scaled-down PointPillars
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, **_range),
    val=_test,
    test=_test,
)

model = dict(
    point_cloud_range=point_cloud_range,
    backbone=dict(
        stages=[
            dict(
                number=1024,
                sample='furthest',
                radii=(0.4, 0.8),
                neighbours=(8, 16),
                widths=((16, 16), (16, 32)),
                out_channels=32,
            ),
            dict(
                number=512,
                sample='furthest',
                radii=(0.8, 1.6),
                neighbours=(8, 16),
                widths=((32, 48), (32, 48)),
                out_channels=64,
                confidence=32,
            ),
            dict(
                number=256,
                sample='centroid_aware',
                radii=(1.6, 3.2),
                neighbours=(8, 16),
                widths=((64, 64), (64, 64)),
                out_channels=64,
                confidence=32,
            ),
            dict(number=128, sample='centroid_aware'),
        ],
    ),
    bbox_head=dict(
        in_channels=64,
        context_channels=64,
        shift_channels=32,
        aggregation=dict(
            radii=(2.4, 4.8), neighbours=(16, 16), widths=((64, 96), (64, 96)), out_channels=128
        ),
        hidden=(64,),
    ),
)
optimizer = dict(lr=4e-4)  # rises to 4e-3
runner = dict(max_epochs=10)
evaluation = dict(interval=10)
log_config = dict(interval=20)

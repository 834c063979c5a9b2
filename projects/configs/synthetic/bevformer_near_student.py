# The student of bevformer_near_teacher.py: half its resolution in the images (160x90 padded to 160x96) and in BEV
# (20x20), half its encoder, and a small backbone of its own that starts from scratch.
from projects.configs._base_ import camera

_base_ = ['./bevformer_near_teacher.py']

model = dict(
    img_backbone=dict(_delete_=True, **camera.PINT_R18),
    img_neck=dict(in_channels=[32, 64]),
    pts_bbox_head=dict(
        bev_h=20,
        bev_w=20,
        transformer=dict(encoder=dict(num_layers=1)),
    ),
)

image_view = camera.torchvision_view(size=(160, 90))
train_pipeline, test_pipeline = camera.pipelines(
    image_view, distort=False, float32=False, pc_range={{_base_.point_cloud_range}}, cache_mb=2000
)
data = camera.data(train_pipeline, test_pipeline)
runner = dict(max_epochs=2)
evaluation = dict(interval=2)

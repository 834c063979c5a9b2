# The scaled-down student of the demo: half the resolution of its teacher in the images (160x90 padded to 160x96) and in
# BEV (20x20), and half its encoder.
from projects.configs._base_ import camera

_base_ = ['./bevformer_teacher.py']

model = dict(
    pts_bbox_head=dict(
        bev_h=20,
        bev_w=20,
        transformer=dict(encoder=dict(num_layers=1)),
    ),
)

image_view = camera.torchvision_view(size=(160, 90))
train_pipeline, test_pipeline = camera.pipelines(image_view, distort=False, float32=False)
data = camera.data(train_pipeline, test_pipeline)

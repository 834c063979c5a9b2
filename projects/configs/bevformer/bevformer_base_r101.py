# Base* of the FD3D paper: BEVFormer-base with a plain R101 (no DCN) and torchvision's normalisation, so that teacher and
# R50 student see equally normalised images (NDS 47.37, mAP 36.44). Weights were never published: train it first.
from projects.configs._base_ import camera

_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=camera.torchvision_resnet(101, out_indices=(1, 2, 3)),
)

image_view = camera.torchvision_view(scale=1.0)
train_pipeline, test_pipeline = camera.pipelines(image_view)
data = camera.data(train_pipeline, test_pipeline)
load_from = None

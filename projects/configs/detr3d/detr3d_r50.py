# The student of the FD3D paper: DETR3D with a plain R50 on 900x1600 images padded to 928x1600 (NDS 35.78, mAP 28.85;
# taught 38.95 and 31.33). Weights were never published.
from projects.configs._base_ import camera

_base_ = ['./detr3d_r101.py']

model = dict(img_backbone=camera.torchvision_resnet(50, out_indices=(1, 2, 3)))

image_view = camera.torchvision_view(scale=1.0)
train_pipeline, test_pipeline = camera.pipelines(image_view)
data = camera.data(train_pipeline, test_pipeline)
load_from = None

# The pint-sized student of detr3d_teacher.py: half its resolution in the images (160x90 padded to 160x96).
from projects.configs._base_ import camera

_base_ = ['./detr3d_teacher.py']

image_view = camera.torchvision_view(size=(160, 90))
train_pipeline, test_pipeline = camera.pipelines(image_view, distort=False, float32=False)
data = camera.data(train_pipeline, test_pipeline)

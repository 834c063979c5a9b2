# Tiny of the FD3D paper: R50, 450x800 images padded to 464x800, four levels from C2, BEV 100x100, queue of 4 (NDS 39.02,
# mAP 26.87). The official tiny has BEV 50x50 and C5 alone: bevformer_tiny.py. The paper's text is not public; levels and
# encoder depth are those of FocalDistiller's small, which its GFLOPs confirm.
from projects.configs._base_ import camera

_base_ = ['./bevformer_small.py']

model = dict(
    img_backbone=camera.torchvision_resnet(50, out_indices=(0, 1, 2, 3)),
)

image_view = camera.torchvision_view(scale=0.5, pad_divisor=16)
train_pipeline, test_pipeline = camera.pipelines(image_view)
data = camera.data(train_pipeline, test_pipeline)
load_from = None

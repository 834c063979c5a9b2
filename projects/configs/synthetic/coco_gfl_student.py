# The pint-sized student of 2D detectors: half of the backbone's width, and the teacher's image features and head.
from projects.configs._base_ import coco

_base_ = ['./coco_gfl_teacher.py']

model = coco.gfl(coco.fresh_resnet(18, 16), [16, 32, 64, 128], classes=10, channels=64, convs=2)

# Shorter than the teacher's, so that there is something to learn from it.
runner = dict(max_epochs=4)
evaluation = dict(interval=4)

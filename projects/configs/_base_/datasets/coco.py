"""COCO 2017: images whose shorter side is 800 pixels, or whose longer one is 1333."""

from projects.configs._base_ import coco

data_root = 'data/coco/'
class_names = coco.CLASSES
data = coco.data(data_root, class_names, scale=(1333, 800))

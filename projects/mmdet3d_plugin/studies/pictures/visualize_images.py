"""Draw what a 2D detector sees in images of a dataset."""

from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from mmcv.parallel import collate
from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.coco_images import CocoImages
from projects.mmdet3d_plugin.engine.inference import test_arguments
from projects.mmdet3d_plugin.engine.launch import Launch
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.visualization.image_view import ImageBoxes, draw_image


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        UserError: it is missing, or no image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f'cannot read the image {path}')
    return np.ascontiguousarray(image[..., ::-1])


def true_boxes(dataset: CocoImages, index: int) -> ImageBoxes:
    """The boxes that are trained on."""
    found = dataset.get_ann_info(index)
    return ImageBoxes(found['bboxes'], found['labels'])


@torch.no_grad()
def detect_in_image(
    model: nn.Module, dataset: CocoImages, index: int, launch: Launch, least: float = 0.3
) -> ImageBoxes:
    """Boxes of at least a score, in pixels of the original image."""
    batch = unpack_batch(collate([dataset[index]], samples_per_gpu=1), launch)
    result = model(return_loss=False, **batch, **test_arguments(model))[0]
    by_class = result[0] if isinstance(result, tuple) else result
    found = np.concatenate(by_class)
    labels = np.repeat(np.arange(len(by_class)), [len(boxes) for boxes in by_class])
    sure = found[:, 4] >= least
    return ImageBoxes(found[sure, :4], labels[sure], found[sure, 4])


def draw_sample(
    dataset: CocoImages, index: int, model: nn.Module | None, launch: Launch, least: float
) -> Figure:
    """One image with its true boxes, and those of a detector if there is one."""
    predicted = None if model is None else detect_in_image(model, dataset, index, launch, least)
    image = read_image(dataset.image_path(index))
    return draw_image(image, dataset.CLASSES, predicted, true_boxes(dataset, index))

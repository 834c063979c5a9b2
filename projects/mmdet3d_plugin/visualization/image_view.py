"""2D boxes on an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from projects.mmdet3d_plugin.visualization.style import (
    INK,
    TRUTH,
    add_legend,
    class_colour,
    legend_height,
    new_figure,
)


@dataclass(frozen=True)
class ImageBoxes:
    """2D boxes in pixels of an image.

    Attributes:
        boxes: (n, 4) left, top, right, bottom.
        labels: (n,) class indices.
        scores: (n,) in [0, 1], or None for true boxes.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


def draw_image(
    image: np.ndarray,
    classes: Sequence[str],
    predicted: ImageBoxes | None = None,
    truth: ImageBoxes | None = None,
    width: int = 1200,
) -> Figure:
    """Predicted boxes in the colours of their classes with scores in percent, true ones in white.

    Args:
        image: (H, W, 3) uint8 RGB.
        classes: names by label.
        predicted: boxes with scores.
        truth: true boxes.
        width: of the picture in pixels.
    """
    shown = [item for item in (truth, predicted) if item is not None]
    present = sorted({int(label) for item in shown for label in item.labels})
    names = [classes[label] for label in present]
    height = width * image.shape[0] / image.shape[1]
    foot = legend_height(names, width)
    figure = new_figure(width, height + foot)
    ax = figure.add_axes((0, foot / (height + foot), 1, height / (height + foot)))
    ax.imshow(image, aspect='auto')
    ax.set_axis_off()
    for item in shown:
        _draw(ax, item, classes)
    ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    add_legend(figure, names, truth is not None)
    return figure


def _draw(ax: object, item: ImageBoxes, classes: Sequence[str]) -> None:
    """One set of boxes; true ones have no scores."""
    for i, (left, top, right, bottom) in enumerate(item.boxes - 0.5):  # pixel centres are at whole numbers
        colour = TRUTH if item.scores is None else class_colour(classes[int(item.labels[i])])
        line = dict(edgecolor=colour, facecolor='none', linewidth=1.0 if item.scores is None else 1.8)
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, **line))
        if item.scores is not None:
            text = f'{100 * item.scores[i]:.0f}'
            ax.text(left, top, text, color=INK, fontsize=7, va='bottom', clip_on=True)

"""What a second stage was given and what it made of it, side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from projects.mmdet3d_plugin.visualization.bev_view import View, draw_bev_axes
from projects.mmdet3d_plugin.visualization.box_set import BoxSet, present_classes
from projects.mmdet3d_plugin.visualization.style import INK, add_legend, legend_height, new_figure

_MARGIN, _TITLE = 6, 24  # pixels


def draw_proposals(
    classes: Sequence[str],
    points: np.ndarray | None,
    proposals: BoxSet,
    refined: BoxSet,
    truth: BoxSet,
    view: View,
    size: int = 700,
) -> Figure:
    """A scene from above, twice: with the first stage's boxes, and with those of the second.

    Args:
        classes: names by label.
        points: (n, 3+) LiDAR points, metres.
        proposals: boxes of the first stage, by its class score.
        refined: the same boxes after the second, by its IoU score.
        truth: thin and white.
        view: what is seen.
        size: width of one half in pixels.
    """
    names = present_classes([proposals, refined, truth], classes)
    width, tall = 2 * (size + _MARGIN) + _MARGIN, size * view.aspect
    legend = legend_height(names, width)
    height = tall + legend + _TITLE + 2 * _MARGIN
    figure = new_figure(width, height)
    for half, (title, boxes) in enumerate((('first stage', proposals), ('second stage', refined))):
        left = (_MARGIN + half * (size + _MARGIN)) / width
        ax = figure.add_axes((left, (legend + _MARGIN) / height, size / width, tall / height))
        draw_bev_axes(ax, classes, points, boxes, truth, view)
        ax.set_title(f'{title}: {len(boxes)} boxes', color=INK, fontsize=10, loc='left')
    add_legend(figure, names, with_truth=True)
    return figure

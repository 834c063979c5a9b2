"""Where the queries of the distillation head sample the teacher's BEV feature."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from projects.mmdet3d_plugin.visualization.bev_view import UP, draw_ego, draw_true_boxes, map_aspect
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.comparison import Positions
from projects.mmdet3d_plugin.visualization.heatmap_view import show_salience
from projects.mmdet3d_plugin.visualization.style import INK, new_figure, style_axes

LARGEST = 90.0
"""Area of the heaviest dot in square points."""


def layer_colours(count: int) -> np.ndarray:
    """(count, 4) colours from the first decoder layer, cold, to the last one, warm.

    Example:
        >>> layer_colours(3).shape
        (3, 4)
    """
    return colormaps['turbo'](np.linspace(0.15, 0.85, count))


def draw_positions(
    feature: np.ndarray,
    positions: Positions,
    pc_range: Sequence[float],
    truth: BoxSet,
    title: str,
    size: int = 1000,
    forward: float = UP,
) -> Figure:
    """Dots over the teacher's BEV feature: area = attention x confidence, colour = decoder layer.

    Args:
        feature: (C, H, W) of the teacher.
        positions: what the queries sample.
        pc_range: x0, y0, z0, x1, y1, z1 in metres: what the map covers.
        truth: true boxes in the LiDAR frame.
        title: written above.
        size: width of the picture in pixels.
        forward: where the ego car drives, radians from x.
    """
    head, foot, side = 0.045 * size, 0.055 * size, 0.96 * size
    tall = side * map_aspect(pc_range)
    height = head + tall + foot
    figure = new_figure(size, height)
    ax = figure.add_axes((0.02, foot / height, side / size, tall / height))
    style_axes(ax)
    show_salience(ax, feature, pc_range, cmap='gray')
    count = int(positions.layers.max()) + 1 if len(positions.layers) else 0
    colours = layer_colours(count)
    heaviest = positions.weights.max() if count else 1.0
    for layer in range(count):
        chosen = positions.layers == layer
        ax.scatter(
            *positions.places[chosen].T,
            s=LARGEST * positions.weights[chosen] / heaviest,
            color=colours[layer],
            alpha=0.75,
            linewidths=0,
            zorder=3,
        )
    draw_true_boxes(ax, truth)
    draw_ego(ax, forward)
    ax.set(xlim=(pc_range[0], pc_range[3]), ylim=(pc_range[1], pc_range[4]), xticks=[], yticks=[])
    figure.text(0.02, 1 - head / 2 / height, title, color=INK, fontsize=11, va='center')
    _add_legend(figure, colours, heaviest)
    return figure


def _add_legend(figure: Figure, colours: np.ndarray, heaviest: float) -> None:
    """Which colour is which layer, and what the largest dot weighs."""
    dots = dict(linestyle='', marker='o')
    handles = [
        Line2D([], [], color=colour, label=f'layer {i + 1}', **dots) for i, colour in enumerate(colours)
    ]
    size = LARGEST**0.5
    handles.append(Line2D([], [], color=INK, markersize=size, label=f'weight {heaviest:.2g}', **dots))
    handles.append(Line2D([], [], color=INK, markersize=size / 3, label=f'weight {heaviest / 9:.2g}', **dots))
    figure.legend(
        handles=handles,
        loc='lower center',
        ncols=len(handles),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        borderaxespad=0.6,
    )

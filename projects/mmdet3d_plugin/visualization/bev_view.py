"""The scene from above: LiDAR points, boxes, range rings, the ego car. Up is forward."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from projects.mmdet3d_plugin.visualization.box_set import BoxSet, present_classes
from projects.mmdet3d_plugin.visualization.geometry import FOOTPRINT, box_corners
from projects.mmdet3d_plugin.visualization.style import (
    FAINT_INK,
    INK,
    TRUTH,
    add_legend,
    class_colours,
    legend_height,
    new_figure,
    style_axes,
)

POINT_COLOURS = LinearSegmentedColormap.from_list('height', ['#3a5068', '#4f7696', '#8fb4cf', '#e2edf5'])
GROUND, TREE_TOP = -2.0, 2.5


def heading_lines(boxes: np.ndarray) -> np.ndarray:
    """A stroke of one metre ahead of each box's front edge.

    Args:
        boxes: (n, 7+) in the LiDAR frame.

    Returns:
        (n, 2, 2) metres.
    """
    direction = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=1)
    front = boxes[:, :2] + boxes[:, 3, None] / 2 * direction
    return np.stack([front, front + direction], axis=1)


def draw_points(ax: Axes, points: np.ndarray) -> None:
    """LiDAR points (n, 3+) in metres, brighter with height."""
    shade = np.clip((points[:, 2] - GROUND) / (TREE_TOP - GROUND), 0, 1)
    order = np.argsort(points[:, 2])
    ax.scatter(
        points[order, 0],
        points[order, 1],
        c=shade[order],
        cmap=POINT_COLOURS,
        vmin=0,
        vmax=1,
        s=1.6,
        linewidths=0,
    )


def draw_rings(ax: Axes, reach: float, step: float = 10.0) -> None:
    """Circles every ``step`` metres with their distance."""
    for radius in np.arange(step, reach + 1e-6, step):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=FAINT_INK, linewidth=0.5, alpha=0.35))
        ax.text(
            radius * np.sin(0.78),
            -radius * np.cos(0.78),
            f'{radius:.0f} m',
            color=FAINT_INK,
            fontsize=7,
            ha='center',
        )


def draw_ego(ax: Axes) -> None:
    """The recording car: an arrow head in a footprint of its size."""
    body = np.array([(-0.9, -2.9), (0.9, -2.9), (0.9, 0.7), (0, 1.7), (-0.9, 0.7)])
    ax.add_patch(Polygon(body, closed=True, facecolor=INK, edgecolor='none', zorder=5))


def draw_boxes(ax: Axes, boxes: BoxSet, classes: Sequence[str]) -> None:
    """Filled footprints in class colours with heading strokes."""
    colours = class_colours(boxes.labels, classes)
    footprints = box_corners(boxes.boxes)[:, FOOTPRINT, :2]
    ax.add_collection(
        PolyCollection(
            footprints,
            facecolors=[to_rgba(colour, 0.28) for colour in colours],
            edgecolors=colours,
            linewidths=1.2,
            joinstyle='round',
            zorder=3,
        )
    )
    ax.add_collection(LineCollection(heading_lines(boxes.boxes), colors=colours, linewidths=1.2, zorder=3))


def draw_true_boxes(ax: Axes, boxes: BoxSet) -> None:
    """Thin white footprints with heading strokes."""
    footprints = box_corners(boxes.boxes)[:, FOOTPRINT, :2]
    thin = {'linewidths': 0.8, 'zorder': 4}
    ax.add_collection(PolyCollection(footprints, facecolors='none', edgecolors=TRUTH, **thin))
    ax.add_collection(LineCollection(heading_lines(boxes.boxes), colors=TRUTH, **thin))


def draw_bev_axes(
    ax: Axes,
    classes: Sequence[str],
    points: np.ndarray | None = None,
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    reach: float = 51.2,
) -> None:
    """Draw a scene from above.

    Args:
        ax: square axes.
        classes: names by label.
        points: (n, 3+) LiDAR points, metres.
        predicted: coloured by class. Without predictions, the true boxes take their place.
        truth: thin and white.
        reach: metres from the ego car to each border.
    """
    style_axes(ax)
    draw_rings(ax, reach)
    if points is not None:
        draw_points(ax, points)
    draw_ego(ax)
    solid, thin = (truth, None) if predicted is None else (predicted, truth)
    if solid is not None:
        draw_boxes(ax, solid, classes)
    if thin is not None:
        draw_true_boxes(ax, thin)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect='equal')


def draw_bev(
    classes: Sequence[str],
    points: np.ndarray | None = None,
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    reach: float = 51.2,
    size: int = 1000,
) -> Figure:
    """The scene from above as a square picture with a legend; arguments as :func:`draw_bev_axes`.

    Args:
        size: width of the picture in pixels.
    """
    names = present_classes([predicted, truth], classes)
    legend, margin = legend_height(names, size), 6
    height = size + legend
    figure = new_figure(size, height)
    area = (
        margin / size,
        (legend + margin) / height,
        1 - 2 * margin / size,
        (size - 2 * margin) / height,
    )
    draw_bev_axes(figure.add_axes(area), classes, points, predicted, truth, reach)
    add_legend(figure, names, predicted is not None and truth is not None)
    return figure

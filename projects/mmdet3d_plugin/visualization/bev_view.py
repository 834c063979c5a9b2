"""The scene from above: LiDAR points, boxes, range rings, the ego car. Up is y of the LiDAR frame; where the car drives, a view says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from projects.mmdet3d_plugin.common.geometry import FOOTPRINT, box_corners
from projects.mmdet3d_plugin.visualization.box_set import BoxSet, present_classes
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
UP = np.pi / 2
EGO_REACH = 3.0
"""Metres around the origin that show the ego car."""


@dataclass(frozen=True)
class View:
    """What is seen from above.

    Args:
        limits: x0, y0, x1, y1 in metres, LiDAR frame.
        forward: where the ego car drives, radians counter-clockwise from x: y on nuScenes, x on KITTI.
    """

    limits: tuple[float, float, float, float]
    forward: float = UP

    @classmethod
    def around(cls, reach: float, forward: float = UP) -> 'View':
        """A square with the ego car in its middle, ``reach`` metres to each border."""
        return cls((-reach, -reach, reach, reach), forward)

    @classmethod
    def of(cls, pc_range: Sequence[float], forward: float = UP) -> 'View':
        """The range x0, y0, z0, x1, y1, z1 of a detector, and the ego car."""
        low = [min(limit, -EGO_REACH) for limit in pc_range[:2]]
        high = [max(limit, EGO_REACH) for limit in pc_range[3:5]]
        return cls((*low, *high), forward)

    @property
    def aspect(self) -> float:
        """Height by width."""
        x0, y0, x1, y1 = self.limits
        return (y1 - y0) / (x1 - x0)


NUSCENES_VIEW = View.around(51.2)


def map_aspect(pc_range: Sequence[float]) -> float:
    """Height by width of a BEV map that covers x0, y0, z0, x1, y1, z1 in metres.

    Example:
        >>> map_aspect([0, -40, -3, 40, 40, 1])
        2.0
    """
    x0, y0, _, x1, y1, _ = pc_range
    return (y1 - y0) / (x1 - x0)


def heading_lines(boxes: np.ndarray) -> np.ndarray:
    """A stroke of one metre ahead of each box's front edge.

    Args:
        boxes: (n, 7+) in the LiDAR frame.

    Returns:
        (n, 2, 2) metres.

    Example:
        >>> heading_lines(np.array([[0.0, 0, 0, 4, 2, 2, 0]])).tolist()
        [[[2.0, 0.0], [3.0, 0.0]]]
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
            clip_on=True,
        )


def draw_ego(ax: Axes, forward: float = UP) -> None:
    """The recording car: an arrow head in a footprint of its size; ``forward`` as in :class:`View`."""
    ahead = np.array([np.cos(forward), np.sin(forward)])
    right = np.array([ahead[1], -ahead[0]])
    body = np.array([(-0.9, -2.9), (0.9, -2.9), (0.9, 0.7), (0, 1.7), (-0.9, 0.7)]) @ np.stack([right, ahead])
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
    view: View = NUSCENES_VIEW,
) -> None:
    """Draw a scene from above.

    Args:
        ax: of the view's aspect.
        classes: names by label.
        points: (n, 3+) LiDAR points, metres.
        predicted: coloured by class. Without predictions, the true boxes take their place.
        truth: thin and white.
        view: what is seen.
    """
    style_axes(ax)
    x0, y0, x1, y1 = view.limits
    draw_rings(ax, max(map(abs, view.limits)))
    if points is not None:
        draw_points(ax, points)
    draw_ego(ax, view.forward)
    solid, thin = (truth, None) if predicted is None else (predicted, truth)
    if solid is not None:
        draw_boxes(ax, solid, classes)
    if thin is not None:
        draw_true_boxes(ax, thin)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[], aspect='equal')


def draw_bev(
    classes: Sequence[str],
    points: np.ndarray | None = None,
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    view: View = NUSCENES_VIEW,
    size: int = 1000,
) -> Figure:
    """The scene from above with a legend; arguments as :func:`draw_bev_axes`.

    Args:
        size: width of the picture in pixels.
    """
    names = present_classes([predicted, truth], classes)
    legend, margin = legend_height(names, size), 6
    inner = size - 2 * margin
    height = inner * view.aspect + 2 * margin + legend
    figure = new_figure(size, height)
    area = (
        margin / size,
        (legend + margin) / height,
        inner / size,
        inner * view.aspect / height,
    )
    draw_bev_axes(figure.add_axes(area), classes, points, predicted, truth, view)
    add_legend(figure, names, predicted is not None and truth is not None)
    return figure

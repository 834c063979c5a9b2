"""What is taught on point clouds: important voxels, and the heatmaps of two centre heads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure

from projects.mmdet3d_plugin.visualization.bev_view import (
    UP,
    View,
    draw_bev_axes,
    draw_true_boxes,
    map_aspect,
)
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.feature_view import GAP_COLOURS, Panels, show_bev
from projects.mmdet3d_plugin.visualization.heatmap_view import CONTOUR

IMPORTANCE_COLOURS = 'plasma'
HUBS = 3
"""Voxels whose edges are drawn: those of all would hide everything."""


@dataclass(frozen=True)
class Importance:
    """The voxels that a local distillation compares.

    Attributes:
        name: of the term.
        centres: (N, 2) as x, y of the important voxels in metres, LiDAR frame.
        weights: (N,) phi of the paper, mean 1.
        neighbours: (N, K, 2), the same of the voxels that are nearest in the teacher's feature space, itself first.
        size: (x, y) of a voxel in metres.
        total: voxels of the sample.
    """

    name: str
    centres: np.ndarray
    weights: np.ndarray
    neighbours: np.ndarray
    size: tuple[float, float]
    total: int


@dataclass(frozen=True)
class Pivots:
    """Heatmaps of two dense heads, the largest of all classes, tasks and anchors, and how much each position counts.

    Attributes:
        name: of the term.
        teacher: (H, W) probabilities, rows along y.
        student: (h, w), the same; its grid may be coarser.
        weight: (H, W), the largest of all tasks; None where each counts alike.
        limits: x0, y0, z0, x1, y1, z1 in metres that the teacher's map and the weight cover.
        own: the same of the student's map.
    """

    name: str
    teacher: np.ndarray
    student: np.ndarray
    weight: np.ndarray | None
    limits: Sequence[float]
    own: Sequence[float]


def draw_importance(
    importance: Importance, points: np.ndarray | None, truth: BoxSet, view: View, width: int = 900
) -> Figure:
    """The point cloud from above, important voxels coloured by weight, edges of a few of them, true boxes in white.

    Args:
        importance: of a local distillation.
        points: (n, 3+) LiDAR points in metres, or None.
        truth: true boxes in the LiDAR frame.
        view: what is seen.
        width: of the scene in pixels.
    """
    shown, total = len(importance.weights), importance.total
    panels = Panels(1, 1, (width, round(width * view.aspect)))
    ax = panels.add(
        0, 0, f'the {shown} most important of {total} voxels, by their weight $\\varphi$ (mean 1)'
    )
    draw_bev_axes(ax, (), points, view=view)
    scale = ScalarMappable(Normalize(0, importance.weights.max()), IMPORTANCE_COLOURS)
    order = np.argsort(importance.weights, kind='stable')
    half = np.array(importance.size) / 2 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    squares = importance.centres[order, None] + half
    ax.add_collection(
        PolyCollection(squares, facecolors=scale.to_rgba(importance.weights[order]), alpha=0.9, zorder=2)
    )
    _draw_edges(ax, importance)
    draw_true_boxes(ax, truth)
    panels.colour_bar(0, 0, scale)
    return panels.figure


def _draw_edges(ax: Axes, importance: Importance) -> None:
    """Lines from a few voxels, spread evenly over the order of importance, to their neighbours."""
    order = np.argsort(-importance.weights, kind='stable')
    hubs = order[np.unique(np.linspace(0, len(order) - 1, HUBS).astype(int))]
    ends = importance.neighbours[hubs]
    starts = np.broadcast_to(importance.centres[hubs, None], ends.shape)
    edges = np.stack([starts, ends], axis=2).reshape(-1, 2, 2)
    ax.add_collection(LineCollection(edges, colors=CONTOUR, linewidths=0.6, alpha=0.6, zorder=2.5))


def draw_pivots(pivots: Pivots, truth: BoxSet, forward: float = UP, width: int = 480) -> Figure:
    """Side by side: the teacher's heatmap, the student's, and how much each position counts if that differs; true boxes
    in white.

    Args:
        pivots: of a distillation of class logits.
        truth: true boxes in the LiDAR frame.
        forward: where the ego car drives, radians from x.
        width: of each map in pixels.
    """
    maps: list[tuple[str, np.ndarray, Sequence[float]]] = [
        ('teacher: highest class probability', pivots.teacher, pivots.limits),
        ('student: highest class probability', pivots.student, pivots.own),
    ]
    if pivots.weight is not None:
        share = (pivots.weight > 0).mean()
        maps.append((f'weight: {share:.1%} of the cells are pivotal', pivots.weight, pivots.limits))
    panels = Panels(1, len(maps), (width, round(width * map_aspect(pivots.limits))))
    highest = max(values.max() for _, values, _ in maps)
    scale = ScalarMappable(PowerNorm(0.5, 0, highest), GAP_COLOURS)
    for column, (title, values, limits) in enumerate(maps):
        show_bev(
            panels.add(0, column, title), values, limits, truth, forward, cmap=scale.cmap, norm=scale.norm
        )
    panels.colour_bar(0, 0, scale)
    return panels.figure

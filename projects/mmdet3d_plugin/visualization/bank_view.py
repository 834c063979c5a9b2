"""A frame of an instance bank from above: what was accepted, what is unsure, which points go, and what is true."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from projects.mmdet3d_plugin.common.geometry import FOOTPRINT, box_corners
from projects.mmdet3d_plugin.visualization.bev_view import View, draw_bev_axes
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.style import INK, TRUTH, new_figure

ACCEPTED, UNSURE, GONE, KEPT = '#3ddc84', '#ffb000', '#ff5a3c', '#4aa8ff'
LEGEND = 34
"""Pixels below the picture."""


@dataclass(frozen=True)
class BankFrame:
    """What there is to draw. Boxes are (n, 7), LiDAR frame, gravity centres, metres.

    Attributes:
        points: (N, 3+) in metres.
        gone: (N,) bool, the points that are removed.
        kept: boxes that keep their labels.
        hidden: true boxes whose labels were hidden.
        accepted: boxes of the bank.
        unsure: boxes that are neither object nor background for certain.
    """

    points: np.ndarray
    gone: np.ndarray
    kept: np.ndarray
    hidden: np.ndarray
    accepted: np.ndarray
    unsure: np.ndarray


def draw_bank_frame(frame: BankFrame, view: View, size: int = 760) -> Figure:
    """The frame from above with a legend.

    Args:
        frame: what is drawn.
        view: what is seen.
        size: width of the picture in pixels.
    """
    margin = 6
    inner = size - 2 * margin
    height = inner * view.aspect + 2 * margin + LEGEND
    figure = new_figure(size, height)
    area = (margin / size, (LEGEND + margin) / height, inner / size, inner * view.aspect / height)
    axes = figure.add_axes(area)
    truth = BoxSet(frame.hidden, np.zeros(len(frame.hidden), np.int64))
    nothing = BoxSet(np.zeros((0, 7)), np.zeros(0, np.int64))
    draw_bev_axes(axes, ('object',), frame.points[~frame.gone], nothing, truth, view)
    removed = frame.points[frame.gone]
    axes.scatter(removed[:, 0], removed[:, 1], s=1.6, linewidths=0, c=GONE, zorder=2)
    _draw_footprints(axes, frame.kept, KEPT, 0.45)
    _draw_footprints(axes, frame.accepted, ACCEPTED, 0.3)
    _draw_footprints(axes, frame.unsure, UNSURE, 0.0, '--')
    _add_legend(figure)
    return figure


def _draw_footprints(ax: Axes, boxes: np.ndarray, colour: str, fill: float, style: str = '-') -> None:
    """Outlines, filled where ``fill`` is above zero."""
    footprints = box_corners(boxes)[:, FOOTPRINT, :2]
    ax.add_collection(
        PolyCollection(
            footprints,
            facecolors=to_rgba(colour, fill),
            edgecolors=colour,
            linewidths=1.3,
            linestyles=style,
            zorder=5,
        )
    )


def _add_legend(figure: Figure) -> None:
    handles = [
        Patch(facecolor=to_rgba(KEPT, 0.45), edgecolor=KEPT, label='label'),
        Patch(facecolor=to_rgba(ACCEPTED, 0.3), edgecolor=ACCEPTED, label='accepted'),
        Line2D([], [], color=UNSURE, linestyle='--', linewidth=1.3, label='unsure'),
        Line2D([], [], color=GONE, marker='.', linestyle='', label='removed points'),
        Line2D([], [], color=TRUTH, linewidth=0.8, label='hidden object'),
    ]
    figure.legend(
        handles=handles, loc='lower center', ncols=len(handles), frameon=False, labelcolor=INK, fontsize=9,
        handlelength=1.4, columnspacing=1.6, borderaxespad=0.6,
    )  # fmt: skip

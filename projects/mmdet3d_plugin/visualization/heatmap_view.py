"""What stands out in a BEV feature, and where the distiller looks."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from projects.mmdet3d_plugin.visualization.bev_view import UP, draw_ego, draw_true_boxes, map_aspect
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.style import (
    FAINT_INK,
    INK,
    add_colour_bar,
    new_figure,
    style_axes,
)

CONTOUR = '#5cf2d6'
LEVELS = (0.1, 0.4, 0.7)


def feature_salience(feature: np.ndarray) -> np.ndarray:
    """Distance of every cell's feature vector from the mean of all cells.

    The plain norm says little: the encoder ends in a LayerNorm, which gives every cell nearly the same length.

    Args:
        feature: (C, H, W), rows along y from low to high, columns along x.

    Returns:
        (H, W).

    Example:
        >>> feature_salience(np.ones((4, 2, 2)))
        array([[0., 0.],
               [0., 0.]], dtype=float32)
    """
    feature = feature.astype(np.float32)
    return np.linalg.norm(feature - feature.mean(axis=(1, 2), keepdims=True), axis=0)


def show_salience(ax: Axes, feature: np.ndarray, pc_range: Sequence[float], cmap: str = 'magma') -> AxesImage:
    """Draw the salience of a BEV feature (C, H, W), forward up.

    Args:
        ax: to draw on, in metres.
        feature: rows along y, columns along x.
        pc_range: x0, y0, z0, x1, y1, z1 in metres: what the map covers.
        cmap: colours from the mean cell to the one that stands out most.
    """
    return show_values(ax, feature_salience(feature), pc_range, cmap)


def salience_at_distance(feature: np.ndarray, pc_range: Sequence[float], width: float = 2.0) -> np.ndarray:
    """How much every cell differs from the cells as far from the car, in units of what these usually do.

    A map that is lifted from images is far stronger near the car than anywhere else; objects stand out of their ring.

    Args:
        feature: (C, H, W), rows along y from low to high, columns along x.
        pc_range: x0, y0, z0, x1, y1, z1 in metres: what the map covers.
        width: of a ring in metres.

    Returns:
        (H, W).

    Example:
        >>> bev = np.ones((2, 8, 8))
        >>> bev[:, 5, 2] = 0
        >>> divmod(int(salience_at_distance(bev, [-8, -8, -5, 8, 8, 3]).argmax()), 8)
        (5, 2)
    """
    h, w = feature.shape[1:]
    x0, y0, _, x1, y1, _ = pc_range
    x, y = x0 + (np.arange(w) + 0.5) * (x1 - x0) / w, y0 + (np.arange(h) + 0.5) * (y1 - y0) / h
    ring = (np.hypot(x, y[:, None]) / width).astype(int).ravel()
    cells, count = feature.reshape(len(feature), -1), np.maximum(np.bincount(ring), 1)
    mean = np.stack([np.bincount(ring, channel) / count for channel in cells])
    gap = np.linalg.norm(cells - mean[:, ring], axis=0)
    usual = np.bincount(ring, gap) / count
    return (gap / np.maximum(usual[ring], 1e-6)).reshape(h, w)


def show_values(ax: Axes, values: np.ndarray, pc_range: Sequence[float], cmap: str = 'magma') -> AxesImage:
    """Draw a number (H, W) for each cell of a BEV map; other arguments as of :func:`show_salience`."""
    x0, y0, _, x1, y1, _ = pc_range
    # a few border cells with extreme values would flatten the contrast of everything else
    low, high = np.percentile(values, (1, 99.5))
    return ax.imshow(
        values,
        origin='lower',
        extent=(x0, x1, y0, y1),
        cmap=cmap,
        vmin=low,
        vmax=high,
        interpolation='bilinear',
    )


def draw_heatmap(
    feature: np.ndarray,
    heatmap: np.ndarray,
    pc_range: Sequence[float],
    truth: BoxSet | None = None,
    title: str = 'BEV feature',
    size: int = 1000,
    forward: float = UP,
) -> Figure:
    """The salience of a BEV feature with the contours of the ground-truth heatmap over it.

    Args:
        feature: (C, H, W) BEV map of the teacher or the student.
        heatmap: (h, w) in [0, 1], the region of the BEV loss; its grid may differ from the feature's.
        pc_range: x0, y0, z0, x1, y1, z1 in metres: what both maps cover.
        truth: true boxes in the LiDAR frame.
        title: shown above the picture.
        size: width of the picture in pixels.
        forward: where the ego car drives, as in :class:`View`.
    """
    x0, y0, _, x1, y1, _ = pc_range
    left, side, foot, head = 0.065, 0.828, 0.06 * size, 0.042 * size
    tall = side * size * map_aspect(pc_range)
    height = foot + tall + head
    figure = new_figure(size, height)
    ax = figure.add_axes((left, foot / height, side, tall / height))
    style_axes(ax)
    shown = show_salience(ax, feature, pc_range)
    _draw_contours(ax, heatmap, (x0, y0, x1, y1))
    if truth is not None and len(truth):
        draw_true_boxes(ax, truth)
    draw_ego(ax, forward)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), aspect='equal')
    drives_up = abs(np.sin(forward)) > abs(np.cos(forward))
    x, y = ('to the right', 'forward') if drives_up else ('forward', 'to the left')
    ax.set_xlabel(f'x, metres {x}', color=FAINT_INK, fontsize=9)
    ax.set_ylabel(f'y, metres {y}', color=FAINT_INK, fontsize=9)
    ax.set_title(
        f'{title}: distance of each cell from the mean; contours: ground-truth heatmap',
        color=INK,
        fontsize=11,
    )
    add_colour_bar(figure, shown, (0.91, foot / height, 0.018, tall / height))
    return figure


def _draw_contours(ax: Axes, heatmap: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Contour lines of the heatmap (h, w), its samples placed at the centres of its cells."""
    x0, y0, x1, y1 = extent
    fine = cv2.resize(heatmap.astype(np.float32), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    height, width = fine.shape
    x = x0 + (np.arange(width) + 0.5) * (x1 - x0) / width
    y = y0 + (np.arange(height) + 0.5) * (y1 - y0) / height
    if fine.max() > LEVELS[0]:
        ax.contour(x, y, fine, levels=LEVELS, colors=CONTOUR, linewidths=(0.7, 1.0, 1.3))

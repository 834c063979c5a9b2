"""Where terms look: regions over the camera images and over BEV maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.camera_view import draw_camera_grid, grid_height
from projects.mmdet3d_plugin.visualization.heatmap_view import CONTOUR
from projects.mmdet3d_plugin.visualization.style import INK, add_colour_bar, new_figure

WEIGHTS = LinearSegmentedColormap.from_list('weights', ['#2233a8', '#3d86ff', CONTOUR])
OPACITY = (0.2, 0.5)
NOTHING = BoxSet(np.zeros((0, 7)), np.zeros(0, dtype=int), np.zeros(0))


def tint(region: np.ndarray) -> np.ndarray:
    """Weights (H, W) in [0, 1] as a transparent picture (H, W, 4): fainter with less weight, nothing at weight 0.

    Example:
        >>> tint(np.ones((2, 2))).shape
        (2, 2, 4)
    """
    weight = np.clip(region, 0, 1)
    picture = WEIGHTS(weight)
    low, high = OPACITY
    picture[..., 3] = (low + (high - low) * weight) * (region > 0)
    return picture


def draw_camera_regions(
    cameras: dict[str, tuple[np.ndarray, np.ndarray]],
    region: np.ndarray,
    seen: Sequence[tuple[float, float, float, float]],
    classes: Sequence[str],
    truth: BoxSet,
    title: str,
    width: int = 1800,
) -> Figure:
    """A region at one level of image features over the images, cell by cell, with the true boxes in white.

    Args:
        cameras: name -> (image (H, W, 3) uint8 RGB, lidar2img (4, 4)), in the order of the region.
        region: (num_cams, h, w) weights; covers what the detector sees of the images.
        seen: left, top, right, bottom of that for each camera, in pixels of the image, padding included.
        classes: names by label.
        truth: true boxes in the LiDAR frame.
        title: written above.
        width: of the picture in pixels.
    """
    margin, head, bar = 6, 34, 56
    inner = width - 2 * margin - bar
    grid = grid_height(cameras, inner, 6)
    figure = new_figure(width, grid + head + margin)
    area = (margin, margin, inner, grid)
    axes = draw_camera_grid(figure, area, cameras, classes, NOTHING, truth)
    for (name, (image, _)), weights, place in zip(cameras.items(), region, seen, strict=True):
        shown = axes[name].get_xlim()[1] / image.shape[1]  # the grid draws images smaller than they are
        _lay_over(axes[name], weights, [shown * side for side in place])
    height = grid + head + margin
    figure.text(margin / width, 1 - 0.5 * head / height, title, color=INK, fontsize=12, va='center')
    place = ((width - bar + 8) / width, margin / height, 14 / width, grid / height)
    add_colour_bar(figure, ScalarMappable(Normalize(0, 1), WEIGHTS), place)
    return figure


def _lay_over(ax: Axes, region: np.ndarray, seen: Sequence[float]) -> None:
    """Draw a region (h, w) over the part of an image that it covers, and a dotted frame where that is not all of it."""
    limits = ax.get_xlim(), ax.get_ylim()
    left, top, right, bottom = seen
    place = dict(extent=(left, right, bottom, top), interpolation='nearest', aspect='auto', zorder=0.5)
    ax.imshow(tint(region), **place)
    outline(ax, region, (left, top, 0, right, bottom, 0))
    whole = left <= 0 and top <= 0 and right >= limits[0][1] and bottom >= limits[1][0]
    if not whole:
        frame = dict(fill=False, edgecolor='white', linestyle=':', linewidth=0.8, zorder=0.6)
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, **frame))
    ax.set(xlim=limits[0], ylim=limits[1])


def outline(ax: Axes, region: np.ndarray, limits: Sequence[float]) -> None:
    """Draw around the cells of a region (H, W) that have a weight.

    Args:
        ax: to draw on.
        region: first row at the lowest y.
        limits: x0, y0, z0, x1, y1, z1 of what the region covers, in the units of the axes.
    """
    if not (region > 0).any():
        return
    h, w = region.shape
    inside = np.kron(region > 0, np.ones((4, 4)))
    x = limits[0] + (np.arange(4 * w) + 0.5) * (limits[3] - limits[0]) / (4 * w)
    y = limits[1] + (np.arange(4 * h) + 0.5) * (limits[4] - limits[1]) / (4 * h)
    ax.contour(x, y, inside, levels=[0.5], colors=CONTOUR, linewidths=0.7)

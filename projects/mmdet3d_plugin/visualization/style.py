"""Colours, the dark canvas and how a figure is saved: what every picture shares."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from projects.mmdet3d_plugin.common.files import write_file

CANVAS = '#0e1117'
PANEL = '#161b22'
INK = '#e6edf3'
FAINT_INK = '#8b949e'
TRUTH = '#ffffff'

CLASS_COLOURS = {
    'car': '#4aa8ff',
    'truck': '#ff9f1c',
    'construction_vehicle': '#2ec4b6',
    'bus': '#ffd23f',
    'trailer': '#c98b5e',
    'barrier': '#c2e34f',
    'motorcycle': '#ff5da2',
    'bicycle': '#b388ff',
    'cyclist': '#b388ff',
    'pedestrian': '#3ddc84',
    'traffic_cone': '#ff5a3c',
}
SPARE_COLOURS = ('#4aa8ff', '#3ddc84', '#b388ff', '#ff9f1c', '#ff5da2', '#ffd23f')


def class_colour(name: str) -> str:
    """Hex colour of a class; names outside nuScenes and KITTI get a stable spare colour.

    Example:
        >>> class_colour('car') == class_colour('Car')
        True
    """
    return CLASS_COLOURS.get(name.lower()) or SPARE_COLOURS[sum(map(ord, name)) % len(SPARE_COLOURS)]


def class_colours(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Colours of boxes.

    Args:
        labels: (n,) class indices.
        classes: names by index.

    Example:
        >>> class_colours(np.array([0, 0]), ['car']) == [class_colour('car')] * 2
        True
    """
    return [class_colour(classes[int(label)]) for label in labels]


def new_figure(width: float, height: float, dpi: int = 100) -> Figure:
    """A figure of ``width x height`` pixels on the dark canvas, free of pyplot's global state."""
    return Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor=CANVAS)


def style_axes(ax: Axes) -> None:
    """Quiet ticks and spines on the dark panel."""
    ax.set_facecolor(PANEL)
    ax.tick_params(colors=FAINT_INK, labelsize=8, length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def legend_height(names: Sequence[str], width: float) -> int:
    """Pixels that the legend of these classes needs below a picture of a width in pixels."""
    return 12 + 22 * -(-(len(names) + 1) // _legend_columns(names, width))


def _legend_columns(names: Sequence[str], width: float) -> int:
    return max(1, min(len(names) + 1, int(width // 150)))


def add_legend(figure: Figure, names: Sequence[str], with_truth: bool) -> None:
    """Class colours along the bottom edge and, when both kinds are drawn, a line that explains the white boxes."""
    handles: list[Patch | Line2D] = [
        Patch(facecolor=class_colour(name), edgecolor='none', label=name.replace('_', ' ')) for name in names
    ]
    if with_truth:
        handles.append(Line2D([], [], color=TRUTH, linewidth=1.4, label='ground truth'))
    figure.legend(
        handles=handles,
        loc='lower center',
        ncols=_legend_columns(names, figure.get_figwidth() * figure.dpi),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=1.4,
        handleheight=0.9,
        columnspacing=1.6,
        borderaxespad=0.4,
    )


def add_colour_bar(figure: Figure, shown: ScalarMappable, area: tuple[float, float, float, float]) -> None:
    """A quiet upright colour bar at (left, bottom, width, height), as shares of the figure."""
    bar = figure.colorbar(shown, cax=figure.add_axes(area))
    bar.ax.tick_params(colors=FAINT_INK, labelsize=8, length=0)
    bar.outline.set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, JPEG or SVG by the file's suffix and make its folder.

    Returns:
        The path that was written.
    """
    path = Path(path)
    options = {'pil_kwargs': {'quality': 90}} if path.suffix in ('.jpg', '.jpeg') else {}
    options |= {'format': path.suffix.removeprefix('.'), 'facecolor': figure.get_facecolor()}
    return write_file(path, lambda file: figure.savefig(file, **options), sync=False)

"""Features of teacher and student side by side, and what lies between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from projects.mmdet3d_plugin.visualization.bev_view import UP, draw_ego, draw_true_boxes, map_aspect
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.camera_view import camera_rows, name_camera
from projects.mmdet3d_plugin.visualization.comparison import BEVMaps, Comparison
from projects.mmdet3d_plugin.visualization.heatmap_view import (
    salience_at_distance,
    show_salience,
    show_values,
)
from projects.mmdet3d_plugin.visualization.region_view import outline, tint
from projects.mmdet3d_plugin.visualization.style import INK, add_colour_bar, new_figure, style_axes

GAP_COLOURS = 'inferno'
SPREAD = (1.0, 99.0)
"""Percentiles of the teacher's cells that span the colours."""


class PrincipalColours:
    """Red, green and blue from the first three principal components of a feature.

    Fitted on the teacher and applied to all, so that equal colours mean equal features.

    Args:
        feature: (N, C, H, W) of the teacher.

    Attributes:
        explained: share of the teacher's variance that the colours show.
    """

    def __init__(self, feature: np.ndarray) -> None:
        cells = _cells(feature)
        self._mean = cells.mean(axis=0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(cells, rowvar=False)))
        axes = vectors[:, ::-1][:, :3]
        # an axis has no sign of its own: the largest entry decides
        self._axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        self._low, self._high = np.percentile(self._project(cells), SPREAD, axis=0)
        self.explained = float(values[::-1][:3].sum() / max(values.sum(), 1e-12))

    @property
    def title(self) -> str:
        """What the colours are, for the panel of the teacher."""
        return f'teacher (colours: {self.explained:.0%} of its variance)'

    def __call__(self, feature: np.ndarray) -> np.ndarray:
        """(N, C, H, W) -> (N, H, W, 3) in [0, 1]."""
        n, _, h, w = feature.shape
        scaled = (self._project(_cells(feature)) - self._low) / np.maximum(self._high - self._low, 1e-12)
        colours = np.full((n * h * w, 3), 0.5)
        colours[:, : scaled.shape[1]] = scaled.clip(0, 1)
        return colours.reshape(n, h, w, 3)

    def _project(self, cells: np.ndarray) -> np.ndarray:
        return (cells - self._mean) @ self._axes


def _cells(feature: np.ndarray) -> np.ndarray:
    """(N, C, H, W) -> (N * H * W, C)."""
    return feature.transpose(0, 2, 3, 1).reshape(-1, feature.shape[1]).astype(np.float64)


TITLE = 520
"""Pixels that the longest title of a row takes."""


def gap_scale(comparison: Comparison) -> ScalarMappable:
    """Colours of all gaps of a term: by the root, because generated features come so much closer than others."""
    limits = [np.percentile(comparison.gap_map(name), 99.5) for name in comparison.student_features]
    return ScalarMappable(PowerNorm(0.5, 0, max([1e-12, *limits])), GAP_COLOURS)


def draw_bev_comparison(
    comparison: Comparison, pc_range: Sequence[float], truth: BoxSet, forward: float = UP, side: int = 500
) -> Figure:
    """Above: BEV features in principal colours. Below: the region over the teacher's feature, and the gaps.

    Args:
        comparison: of a term on BEV.
        pc_range: x0, y0, z0, x1, y1, z1 in metres: what the map covers.
        truth: true boxes in the LiDAR frame.
        forward: where the ego car drives, radians from x.
        side: width of each map in pixels.
    """
    colours, scale = PrincipalColours(comparison.teacher), gap_scale(comparison)
    height = round(side * map_aspect(pc_range))
    panels = Panels(
        2, 1 + len(comparison.student_features), (side, height), bar=bool(comparison.student_features)
    )
    features = {'teacher': comparison.teacher, **comparison.student_features}
    for column, (name, feature) in enumerate(features.items()):
        title = colours.title if name == 'teacher' else name
        show_bev(panels.add(0, column, title), colours(feature)[0], pc_range, truth, forward)
    ax = panels.add(1, 0, comparison.extent)
    show_salience(ax, comparison.teacher[0], pc_range, cmap='gray')
    region = np.zeros(comparison.teacher.shape[-2:]) if comparison.region is None else comparison.region[0]
    show_bev(ax, tint(region), pc_range, truth, forward)
    outline(ax, region, pc_range)
    for column, name in enumerate(comparison.student_features, 1):
        ax = panels.add(1, column, gap_title(comparison, name))
        gap = comparison.gap_map(name)[0]
        show_bev(ax, gap, pc_range, truth, forward, cmap=scale.cmap, norm=scale.norm)
        outline(ax, region, pc_range)
    if comparison.student_features:
        panels.colour_bar(1, 1, scale)
    return panels.figure


def draw_bev_maps(maps: BEVMaps, truth: BoxSet, forward: float = UP, side: int = 500) -> Figure:
    """What stands out in the teacher's map and in the student's, side by side: objects must coincide.

    Args:
        maps: of the same metres.
        truth: true boxes in the LiDAR frame.
        forward: where the ego car drives, radians from x.
        side: width of each map in pixels.
    """
    panels = Panels(1, 2, (side, round(side * map_aspect(maps.limits))), bar=False)
    for column, (name, feature) in enumerate((('teacher', maps.teacher), ('student', maps.student))):
        h, w = feature.shape[1:]
        ax = panels.add(0, column, f"{name}'s BEV map, {w} x {h} cells")
        show_values(ax, salience_at_distance(feature, maps.limits), maps.limits)
        mark_objects(ax, maps.limits, truth, forward)
    return panels.figure


def draw_camera_comparison(
    comparison: Comparison, filled: Sequence[tuple[float, float]], cameras: Sequence[str], width: int = 300
) -> Figure:
    """A column for each camera: teacher, student and generated feature in principal colours, then the gaps.

    Args:
        comparison: of a term on image features.
        filled: (width, height) share of each camera's padded image that is image; the rest is not shown.
        cameras: names, in the order of the features.
        width: of each column in pixels; more where few columns leave no room for the titles.
    """
    width = max(width, TITLE // len(cameras))
    colours, scale = PrincipalColours(comparison.teacher), gap_scale(comparison)
    rows = {'teacher': (colours.title, colours(comparison.teacher), {})}
    rows |= {name: (name, colours(feature), {}) for name, feature in comparison.student_features.items()}
    heat = dict(cmap=scale.cmap, norm=scale.norm)
    for name in comparison.student_features:
        rows[f'gap {name}'] = (gap_title(comparison, name), comparison.gap_map(name), heat)
    h, w = comparison.teacher.shape[-2:]
    ratios = [h * share[1] / (w * share[0]) for share in filled]
    size = (width, round(width * min(max(ratios), 1.0)))
    panels = Panels(len(rows), len(cameras), size, bar=bool(comparison.student_features))
    for row, (title, maps, style) in enumerate(rows.values()):
        for column, name in enumerate(name for line in camera_rows(cameras) for name in line):
            camera = cameras.index(name)
            ax = panels.add(row, column, title if column == 0 else '')
            ax.imshow(maps[camera], extent=(0, w, h, 0), aspect='auto', interpolation='nearest', **style)
            if style and comparison.region is not None:
                outline(ax, comparison.region[camera], (0, 0, 0, w, h, 0))
            ax.set(xlim=(0, w * filled[camera][0]), ylim=(h * filled[camera][1], 0), xticks=[], yticks=[])
            if (
                abs(round(width * ratios[camera]) - size[1]) > 1
            ):  # an image of other proportions than its panel
                ax.set_box_aspect(ratios[camera])
            if row == 0:
                name_camera(ax, name)
    if comparison.student_features:
        panels.colour_bar(1 + len(comparison.student_features), len(rows) - 1, scale)
    return panels.figure


class Panels:
    """A figure of equal panels in rows, each row with a line of titles above it.

    Args:
        rows, columns: how many.
        size: (width, height) of a panel in pixels.
        bar: whether there will be a colour bar.
    """

    HEAD, GAP, BAR = 28, 6, 64

    def __init__(self, rows: int, columns: int, size: tuple[int, int], bar: bool = True) -> None:
        self._size = size
        self._full = (
            columns * (size[0] + self.GAP) + (self.BAR if bar else self.GAP),
            rows * (size[1] + self.HEAD) + self.GAP,
        )
        self.figure = new_figure(*self._full)

    def add(self, row: int, column: int, title: str = '') -> Axes:
        """A new panel without ticks, its title above its left end."""
        ax = self.figure.add_axes(self._area(row, column * (self._size[0] + self.GAP) + self.GAP, self._size))
        style_axes(ax)
        ax.set_title(title, color=INK, fontsize=10, pad=6, loc='left')
        return ax

    def colour_bar(self, first: int, last: int, shown: ScalarMappable) -> None:
        """A colour bar at the right of some rows."""
        height = self._size[1] + (last - first) * (self._size[1] + self.HEAD)
        add_colour_bar(self.figure, shown, self._area(last, self._full[0] - self.BAR + 8, (14, height)))

    def _area(self, row: int, left: float, size: tuple[float, float]) -> tuple[float, float, float, float]:
        """Shares of the figure, of a rectangle that stands on the bottom of a row."""
        bottom = self._full[1] - (row + 1) * (self._size[1] + self.HEAD)
        return left / self._full[0], bottom / self._full[1], size[0] / self._full[0], size[1] / self._full[1]


def show_bev(
    ax: Axes,
    picture: np.ndarray,
    pc_range: Sequence[float],
    truth: BoxSet,
    forward: float = UP,
    **style: Any,
) -> None:
    """A BEV map (H, W) or picture (H, W, 3 or 4), y up, cell by cell, with the true boxes in white."""
    x0, y0, _, x1, y1, _ = pc_range
    ax.imshow(picture, origin='lower', extent=(x0, x1, y0, y1), interpolation='nearest', **style)
    mark_objects(ax, pc_range, truth, forward)


def mark_objects(ax: Axes, pc_range: Sequence[float], truth: BoxSet, forward: float) -> None:
    """The true boxes in white and the ego car on a BEV map, and nothing beyond the map; arguments as of :func:`show_bev`."""
    x0, y0, _, x1, y1, _ = pc_range
    draw_true_boxes(ax, truth)
    draw_ego(ax, forward)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[], aspect='equal')


def gap_title(comparison: Comparison, name: str) -> str:
    """The gap in words, inside and outside the region."""
    gap = comparison.gap(name)
    if comparison.region is None:
        return f'{name} - teacher, squared: {gap.everywhere:.3g}'
    inside = 'inside nothing' if np.isnan(gap.inside) else f'inside {gap.inside:.3g}'
    return f'{name} - teacher, squared: {inside}, outside {gap.outside:.3g}'

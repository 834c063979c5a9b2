"""Predicted and true boxes on the camera images."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from projects.mmdet3d_plugin.common.geometry import BOX_EDGES, FRONT_FACE, box_corners, transform_points
from projects.mmdet3d_plugin.visualization.box_set import BoxSet, present_classes
from projects.mmdet3d_plugin.visualization.clipping import clip_polygon, clip_segments
from projects.mmdet3d_plugin.visualization.style import (
    CANVAS,
    INK,
    TRUTH,
    add_legend,
    class_colours,
    legend_height,
    new_figure,
)

# Where each camera looks decides where its image goes: the driver's view on top, the rear below,
# with left and right as one would see them standing behind the car.
GRID = (
    ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'),
    ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'),
)


def camera_rows(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Where the images of a rig go: nuScenes' six as in ``GRID``, others in their order, in up to two rows of up to four.

    Example:
        >>> camera_rows(['a', 'b', 'c', 'd', 'e'])
        (('a', 'b', 'c'), ('d', 'e'))
    """
    if set(names) == {name for row in GRID for name in row}:
        return GRID
    columns = min(4, max(1, len(names) if len(names) < 3 else -(-len(names) // 2)))
    return tuple(tuple(names[i : i + columns]) for i in range(0, len(names), columns))


def grid_height(cameras: dict[str, tuple[np.ndarray, np.ndarray]], width: float, gap: float) -> float:
    """Height in pixels of :func:`draw_camera_grid`, whose cells have the proportions of the first image."""
    rows = camera_rows(list(cameras))
    image = next(iter(cameras.values()))[0]
    cell = (width - (len(rows[0]) - 1) * gap) / len(rows[0])
    return len(rows) * cell * image.shape[0] / image.shape[1] + (len(rows) - 1) * gap


def box_outlines(
    boxes: BoxSet, lidar2img: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Visible parts of the boxes' edges, far boxes first so that near ones are drawn over them.

    Args:
        boxes: n boxes in the LiDAR frame.
        lidar2img: (4, 4) projection to this image.
        width, height: image size in pixels.

    Returns:
        Pixel segments (m, 2, 2), the index of each one's box (m,), and depth of every box (n,) in metres.
    """
    corners = transform_points(box_corners(boxes.boxes), lidar2img)
    depth = corners[..., 2].mean(axis=1) if len(boxes) else np.zeros(0)
    order = np.argsort(-depth)
    segments, source = clip_segments(corners[order][:, BOX_EDGES].reshape(-1, 2, 3), width, height)
    return segments, order[source // len(BOX_EDGES)], depth


def front_faces(
    boxes: BoxSet, lidar2img: np.ndarray, width: int, height: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Visible parts of the boxes' front faces, which show the heading.

    Returns:
        Polygons (k, 2) in pixels and the index of each one's box (m,).
    """
    faces = transform_points(box_corners(boxes.boxes)[:, FRONT_FACE], lidar2img)
    polygons = [clip_polygon(face, width, height) for face in faces]
    seen = [index for index, polygon in enumerate(polygons) if len(polygon)]
    return [polygons[index] for index in seen], np.array(seen, dtype=int)


def _draw_solid(
    ax: Axes, boxes: BoxSet, lidar2img: np.ndarray, classes: Sequence[str], size: tuple[int, int]
) -> None:
    """Boxes as coloured wire frames with a tinted front face."""
    colours = class_colours(boxes.labels, classes)
    polygons, owners = front_faces(boxes, lidar2img, *size)
    ax.add_collection(PolyCollection(polygons, facecolors=[to_rgba(colours[i], 0.30) for i in owners]))
    segments, owners, depth = box_outlines(boxes, lidar2img, *size)
    widths = np.clip(26 / np.maximum(depth[owners], 1), 0.8, 1.8)
    lines = LineCollection(segments, colors=[colours[i] for i in owners], linewidths=widths, capstyle='round')
    ax.add_collection(lines)


def _write_scores(
    ax: Axes, boxes: BoxSet, lidar2img: np.ndarray, classes: Sequence[str], size: tuple[int, int]
) -> None:
    """Each box's score in percent above what is seen of it, near boxes last."""
    colours = class_colours(boxes.labels, classes)
    segments, owners, _ = box_outlines(boxes, lidar2img, *size)
    for box in dict.fromkeys(owners.tolist()):
        corners = segments[owners == box].reshape(-1, 2)
        ax.text(
            corners[:, 0].mean(),
            max(corners[:, 1].min(), 0.04 * size[1]),
            f'{100 * boxes.scores[box]:.0f}',
            color=colours[box],
            fontsize=7,
            ha='center',
            va='bottom',
            clip_on=True,
            path_effects=[withStroke(linewidth=1.2, foreground=CANVAS)],
        )


def _draw_thin(ax: Axes, boxes: BoxSet, lidar2img: np.ndarray, size: tuple[int, int]) -> None:
    """Boxes as thin white wire frames, to be compared with the coloured predictions."""
    segments, _, _ = box_outlines(boxes, lidar2img, *size)
    ax.add_collection(LineCollection(segments, colors=TRUTH, linewidths=0.7, alpha=0.9))


def draw_camera(
    ax: Axes,
    image: np.ndarray,
    lidar2img: np.ndarray,
    classes: Sequence[str],
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    name: str = '',
    scores: bool = False,
) -> None:
    """Draw one camera.

    Args:
        image: (H, W, 3) uint8, RGB.
        lidar2img: (4, 4) projection from the LiDAR frame to this image's pixels.
        classes: names by label.
        predicted: coloured by class. Without predictions, the true boxes take their place.
        truth: thin and white.
        name: written into the corner.
        scores: whether to write the predicted boxes' scores, in percent.
    """
    height, width = image.shape[:2]
    # the outer half pixel belongs to the border pixels
    ax.imshow(image, extent=(0, width, height, 0), interpolation='antialiased', aspect='auto')
    solid, thin = (truth, None) if predicted is None else (predicted, truth)
    if thin is not None:
        _draw_thin(ax, thin, lidar2img, (width, height))
    if solid is not None:
        _draw_solid(ax, solid, lidar2img, classes, (width, height))
    if scores and predicted is not None:
        _write_scores(ax, predicted, lidar2img, classes, (width, height))
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    name_camera(ax, name)


def name_camera(ax: Axes, name: str) -> None:
    """Write a camera's name, such as CAM_FRONT_LEFT, into the upper left corner."""
    label = name.removeprefix('CAM_').replace('_', ' ').lower()
    badge = {'facecolor': 'black', 'alpha': 0.55, 'edgecolor': 'none', 'boxstyle': 'round,pad=0.35'}
    ax.text(
        0.012, 0.965, label, transform=ax.transAxes, color=INK, fontsize=8, ha='left', va='top', bbox=badge
    )


def draw_camera_grid(
    figure: Figure,
    area: tuple[float, float, float, float],
    cameras: dict[str, tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    gap: float = 6,
    scores: bool = False,
) -> dict[str, Axes]:
    """Fill a rectangle of a figure with the cameras of a rig, in the rows of :func:`camera_rows`.

    Args:
        figure: to draw on.
        area: left, bottom, width, height in pixels of the figure.
        cameras: name -> (image (H, W, 3) uint8 RGB, lidar2img (4, 4)).
        classes, predicted, truth, scores: as in :func:`draw_camera`.
        gap: pixels between images.

    Returns:
        The axes of each camera, in pixels of its image.
    """
    axes: dict[str, Axes] = {}
    left, bottom, width, height = area
    full_width, full_height = figure.get_size_inches() * figure.dpi
    rows = camera_rows(list(cameras))
    cell_w = (width - (len(rows[0]) - 1) * gap) / len(rows[0])
    cell_h = (height - (len(rows) - 1) * gap) / len(rows)
    for row, names in enumerate(rows):
        for column, name in enumerate(names):
            image, lidar2img = fit_width(*cameras[name], round(cell_w))
            # an image of other proportions than its cell stands in the middle of it
            scale = min(cell_w / image.shape[1], cell_h / image.shape[0])
            same = abs(image.shape[1] * scale - cell_w) < 1 and abs(image.shape[0] * scale - cell_h) < 1
            w, h = (cell_w, cell_h) if same else (image.shape[1] * scale, image.shape[0] * scale)
            x = left + column * (cell_w + gap) + (cell_w - w) / 2
            y = bottom + (len(rows) - 1 - row) * (cell_h + gap) + (cell_h - h) / 2
            ax = figure.add_axes((x / full_width, y / full_height, w / full_width, h / full_height))
            draw_camera(ax, image, lidar2img, classes, predicted, truth, name, scores)
            axes[name] = ax
    return axes


def fit_width(image: np.ndarray, lidar2img: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrink an image to the width it is shown at, and its projection with it.

    Args:
        image: (H, W, 3).
        lidar2img: (4, 4).
        width: target in pixels; a smaller image is returned as it is.
    """
    if image.shape[1] <= width:
        return image, lidar2img
    size = (width, round(image.shape[0] * width / image.shape[1]))
    scale = np.diag([size[0] / image.shape[1], size[1] / image.shape[0], 1, 1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale @ lidar2img


def draw_cameras(
    cameras: dict[str, tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    width: int = 1920,
) -> Figure:
    """The cameras of one moment with boxes and a legend.

    Args:
        cameras: name -> (image (H, W, 3) uint8 RGB, lidar2img (4, 4)).
        classes: names by label.
        predicted, truth: boxes in the LiDAR frame.
        width: of the picture in pixels.
    """
    names = present_classes([predicted, truth], classes)
    margin, legend, gap = 6, legend_height(names, width), 6
    grid = grid_height(cameras, width - 2 * margin, gap)
    figure = new_figure(width, grid + legend + 2 * margin)
    area = (margin, margin + legend, width - 2 * margin, grid)
    draw_camera_grid(figure, area, cameras, classes, predicted, truth, gap)
    add_legend(figure, names, predicted is not None and truth is not None)
    return figure

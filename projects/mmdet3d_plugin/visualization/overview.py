"""One picture of one moment: the cameras beside the scene from above."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from projects.mmdet3d_plugin.visualization.bev_view import NUSCENES_VIEW, View, draw_bev_axes
from projects.mmdet3d_plugin.visualization.box_set import BoxSet, present_classes
from projects.mmdet3d_plugin.visualization.camera_view import camera_rows, draw_camera_grid
from projects.mmdet3d_plugin.visualization.style import add_legend, legend_height, new_figure


def draw_overview(
    cameras: dict[str, tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    points: np.ndarray | None = None,
    predicted: BoxSet | None = None,
    truth: BoxSet | None = None,
    view: View = NUSCENES_VIEW,
    width: int = 2200,
    scores: bool = False,
) -> Figure:
    """Cameras on the left, bird's-eye view on the right, legend below.

    Args:
        cameras: name -> (image (H, W, 3) uint8 RGB, lidar2img (4, 4)).
        classes: names by label.
        points: (n, 3+) LiDAR points in metres.
        predicted, truth: boxes in the LiDAR frame.
        view: what is seen from above, and where the ego car drives.
        width: of the picture in pixels.
        scores: whether to write the predicted boxes' scores, in percent, on the cameras.
    """
    names = present_classes([predicted, truth], classes)
    margin, gap, legend = 6, 6, legend_height(names, width)
    image = next(iter(cameras.values()))[0]
    ratio = image.shape[0] / image.shape[1]
    # images of aspect `ratio` in rows beside a view of the same height
    rows = camera_rows(list(cameras))
    columns, gaps, beside = len(rows[0]), gap * (len(rows) - 1), 1 / view.aspect
    cell = (width - 2 * margin - columns * gap - gaps * beside) / (columns + len(rows) * ratio * beside)
    height = len(rows) * cell * ratio + gaps
    full_height = height + 2 * margin + legend
    figure = new_figure(width, full_height)
    grid_width = columns * cell + (columns - 1) * gap
    area = (margin, margin + legend, grid_width, height)
    draw_camera_grid(figure, area, cameras, classes, predicted, truth, gap, scores)
    left, bottom = margin + grid_width + gap, margin + legend
    bev = figure.add_axes((left / width, bottom / full_height, height * beside / width, height / full_height))
    draw_bev_axes(bev, classes, points, predicted, truth, view)
    add_legend(figure, names, predicted is not None and truth is not None)
    return figure

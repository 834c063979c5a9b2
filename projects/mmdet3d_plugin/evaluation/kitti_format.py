"""Boxes in the LiDAR frame -> KITTI's annotations and result files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.core.bbox import Box3DMode

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_text
from projects.mmdet3d_plugin.common.geometry import box_corners, image_bounds
from projects.mmdet3d_plugin.evaluation.kitti_metric import Annotations

Info = dict[str, Any]  # one frame of an info file


def frame_annotations(
    result: dict[str, Any], info: Info, classes: Sequence[str], limit: Sequence[float] | None = None
) -> Annotations:
    """Predictions of one frame as KITTI annotations; what the camera cannot see is left out, as it has no label.

    A frame without an image keeps all predictions, with image boxes of zeros.

    Args:
        result: ``boxes_3d`` LiDARInstance3DBoxes (n, 7+), ``scores_3d`` (n,) and ``labels_3d`` (n,), or these below
            ``pts_bbox``.
        info: of the frame.
        classes: name of each label.
        limit: x0, y0, z0, x1, y1, z1 that the bottom centre must lie in, metres, LiDAR frame; None for no limit.

    Returns:
        ``name``, ``truncated``, ``occluded``, ``alpha``, ``bbox``, ``dimensions``, ``location``, ``rotation_y`` and
        ``score``, as :func:`~projects.mmdet3d_plugin.evaluation.kitti_metric.evaluate_kitti` takes them.

    Raises:
        UserError: boxes or scores are not finite.
    """
    result = result.get('pts_bbox', result)
    boxes = np.asarray(result['boxes_3d'].tensor, np.float64)[:, :7]
    scores = np.asarray(result['scores_3d'], np.float64)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise UserError(
            f'predictions for frame {info["image"]["image_idx"]:06d} are not finite: the network has diverged'
        )
    camera = to_camera(boxes, info)
    if 'image_shape' in info['image']:
        bbox, seen = image_boxes(camera, info['calib']['P2'], info['image']['image_shape'])
    else:
        bbox, seen = np.zeros((len(camera), 4)), np.ones(len(camera), dtype=bool)
    if limit is not None:
        seen &= ((boxes[:, :3] > limit[:3]) & (boxes[:, :3] < limit[3:])).all(1)
    camera, count = camera[seen], int(seen.sum())
    return dict(
        name=np.asarray(classes, dtype=str)[np.asarray(result['labels_3d'], np.int64)[seen]],
        truncated=np.zeros(count),
        occluded=np.zeros(count, np.int64),
        alpha=observation_angle(camera),
        bbox=bbox[seen],
        dimensions=camera[:, 3:6],
        location=camera[:, :3],
        rotation_y=camera[:, 6],
        score=scores[seen],
    )


def to_camera(boxes: np.ndarray, info: Info) -> np.ndarray:
    """Boxes (n, 7) of the LiDAR frame -> (n, 7) in the rectified camera's: bottom centre, length, height, width, yaw in -pi..pi."""
    lidar2camera = info['calib']['R0_rect'] @ info['calib']['Tr_velo_to_cam']
    camera = Box3DMode.convert(boxes, Box3DMode.LIDAR, Box3DMode.CAM, lidar2camera)
    camera[:, 6] = _wrap(camera[:, 6])
    return camera


def observation_angle(camera: np.ndarray) -> np.ndarray:
    """Alpha (n,) in -pi..pi of boxes (n, 7) in the camera's frame: the yaw as seen along the line of sight.

    Example:
        >>> ahead = np.array([[0.0, 1.6, 20, 4, 1.5, 1.6, 0]])
        >>> observation_angle(ahead)
        array([0.])
    """
    return _wrap(camera[:, 6] - np.arctan2(camera[:, 0], camera[:, 2]))


def _wrap(angle: np.ndarray) -> np.ndarray:
    return np.pi - (np.pi - angle) % (2 * np.pi)


def camera_corners(camera: np.ndarray) -> np.ndarray:
    """Corners (n, 8, 3) of boxes (n, 7) in the camera's frame, the lower four first, both rounds alike."""
    x, bottom, z, length, height, width, yaw = camera.T
    # seen with y up: x to the right, z ahead, and the heading turns the other way
    upright = np.stack([x, z, height / 2 - bottom, length, width, height, -yaw], axis=-1)
    return box_corners(upright)[..., [0, 2, 1]] * (1, -1, 1)


def image_boxes(
    camera: np.ndarray, projection: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest image boxes around boxes, cut to the image.

    Args:
        camera: (n, 7) boxes in the rectified camera's frame.
        projection: (4, 4) or (3, 4), KITTI's P2.
        shape: height and width of the image, pixels.

    Returns:
        (n, 4) x0, y0, x1, y1, and (n,) bool, whether any of it is within.
    """
    whole = projected_extents(camera, projection)
    size = np.array([shape[1], shape[0]], np.float64)
    seen = ((whole[:, :2] < size) & (whole[:, 2:] > 0)).all(1)
    return np.where(seen[:, None], whole.clip(0, np.tile(size, 2)), 0), seen


def projected_extents(camera: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Smallest boxes (n, 4) x0, y0, x1, y1 in pixels around what is ahead of the camera, over the image's border too.

    Edges are followed up to where they pass the camera; of what is all behind it, the box is (inf, inf, -inf, -inf).
    Arguments as for :func:`image_boxes`.
    """
    corners = torch.from_numpy(camera_corners(camera))
    matrices = torch.from_numpy(projection).to(corners).expand(len(corners), 1, -1, -1)
    return torch.cat(image_bounds(corners, matrices), dim=-1)[:, 0].numpy()


def write_results(
    annotations: Sequence[Annotations], infos: Sequence[Info], folder: str | Path
) -> list[Path]:
    """Write one text file per frame, as KITTI's test server and its own evaluation read them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for frame, info in zip(annotations, infos, strict=True):
        numbers = np.column_stack(
            [
                frame['alpha'],
                frame['bbox'],
                frame['dimensions'][:, [1, 2, 0]],  # height, width, length
                frame['location'],
                frame['rotation_y'],
                frame['score'],
            ]
        )
        rows = [
            f'{name} -1 -1 ' + ' '.join(f'{value:.4f}' for value in row)
            for name, row in zip(frame['name'], numbers, strict=True)
        ]
        paths.append(folder / f'{info["image"]["image_idx"]:06d}.txt')
        write_text(paths[-1], ''.join(row + '\n' for row in rows), sync=False)
    return paths

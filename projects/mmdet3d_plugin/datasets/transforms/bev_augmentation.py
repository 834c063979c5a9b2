"""Turn, scale and mirror the world seen from above: boxes, points and cameras alike."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.builder import PIPELINES
from mmdet3d.core.points import BasePoints

from projects.mmdet3d_plugin.common.geometry import transform_boxes


@PIPELINES.register_module()
class BEVAugmentation:
    """Augment the LiDAR frame ("BEV data augmentation", bda); put it after what loads and before ``ImageView``.

    The new frame takes the place of the old one in all that a frame holds: boxes with their velocities, ``points`` (those
    that depth is learnt from and a LiDAR teacher's), ``cam2lidar`` and with it every view's ``lidar2img``, and the pose. A
    teacher sees the same world, also in points of its own (``PointsView``). Adds ``results['bda']`` (4, 4). All frames of a queue draw alike.

    BEVFormer with a history cannot use it: its ``can_bus`` tells the motion in the world as it was.

    Args:
        rotate: largest angle about z either way, degrees.
        scale: (low, high) factor on everything.
        flip_x: probability that x is mirrored.
        flip_y: probability that y is mirrored.
    """

    def __init__(
        self,
        rotate: float = 22.5,
        scale: tuple[float, float] = (0.95, 1.05),
        flip_x: float = 0.5,
        flip_y: float = 0.5,
    ) -> None:
        self.rotate, self.scale, self.flip_x, self.flip_y = rotate, tuple(scale), flip_x, flip_y

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace what ``results`` hold by their augmented copies."""
        bda = self.draw(results['queue_rng'])
        ego = results['lidar2ego'] @ bda @ np.linalg.inv(results['lidar2ego'])
        results['bda'] = bda
        results['cam2lidar'] = bda @ results['cam2lidar']
        results['ego2global'] = results['ego2global'] @ np.linalg.inv(ego)
        if 'gt_bboxes_3d' in results:
            results['gt_bboxes_3d'] = _moved_boxes(results['gt_bboxes_3d'], bda)
        if 'points' in results:
            move_points(results['points'], bda)
        return results

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(4, 4): rotation and scale, then mirroring."""
        angle, scale, x, y = rng.random(4)
        angle = np.radians((2 * angle - 1) * self.rotate)
        scale = self.scale[0] + scale * (self.scale[1] - self.scale[0])
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, scale, 0], [0, 0, 0, 1]])
        return np.diag([-1.0 if x < self.flip_x else 1.0, -1.0 if y < self.flip_y else 1.0, 1.0, 1.0]) @ turn

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(rotate={self.rotate}, scale={self.scale}, flip_x={self.flip_x}, '
            f'flip_y={self.flip_y})'
        )


def move_points(points: BasePoints, matrix: np.ndarray) -> None:
    """Move points (N, 3+) to another frame, (4, 4) without translation, in place."""
    cloud = points.tensor
    cloud[:, :3] = cloud[:, :3] @ torch.from_numpy(matrix).to(cloud)[:3, :3].T


def _moved_boxes(boxes: Any, matrix: np.ndarray) -> Any:
    """``LiDARInstance3DBoxes`` (n, 7+) in another frame."""
    gravity = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], 1).double()
    moved = transform_boxes(gravity, torch.from_numpy(matrix)).to(boxes.tensor)
    return type(boxes)(moved, box_dim=moved.shape[1], origin=(0.5, 0.5, 0.5))

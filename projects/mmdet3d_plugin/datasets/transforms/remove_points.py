"""Take the points of doubtful things out of a scene, so that nothing learns that they are background."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.geometry import turn
from projects.mmdet3d_plugin.datasets.info_files import ambiguous_boxes


@PIPELINES.register_module()
class RemovePoints:
    """Remove the points in a frame's ambiguous boxes ("reliable background mining"); put it right after the labels are
    loaded, before anything moves.

    The ground stays: a hole in it would tell a detector where objects are pasted.

    Args:
        grow: metres that a box is larger to each side and above.
        keep_ground: metres above the bottom of a box up to which points stay.
    """

    def __init__(self, grow: float = 0.1, keep_ground: float = 0.15) -> None:
        self.grow, self.keep_ground = grow, keep_ground

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Thin out ``results['points']``; points that stay are not touched.

        Raises:
            UserError: the frame is of no derived set.
        """
        boxes = ambiguous_boxes(results)
        if not len(boxes):
            return results
        points = results['points']
        inside = self.inside(points.tensor[:, :3].numpy(), boxes)
        results['points'] = points[torch.from_numpy(~inside)]
        return results

    def inside(self, points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Which points go.

        Args:
            points: (N, 3), metres.
            boxes: (m, 7), bottom centres.

        Returns:
            (N,) bool.
        """
        gone = np.zeros(len(points), dtype=bool)
        for box in np.asarray(boxes, np.float64):
            reach = np.hypot(box[3], box[4]) / 2 + 2 * self.grow
            near = np.flatnonzero((np.abs(points[:, :2] - box[:2]) <= reach).all(1) & ~gone)
            local = turn(points[near].astype(np.float64) - box[:3], -box[6])
            within = (np.abs(local[:, :2]) <= box[3:5] / 2 + self.grow).all(1)
            within &= (local[:, 2] > self.keep_ground) & (local[:, 2] <= box[5] + self.grow)
            gone[near[within]] = True
        return gone

    def __repr__(self) -> str:
        return f'{type(self).__name__}(grow={self.grow}, keep_ground={self.keep_ground})'

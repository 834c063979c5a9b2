"""Put objects of a database where points were removed, as SS3D fills its scenes."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.builder import PIPELINES
from mmdet3d.core.points import LiDARPoints
from mmdet3d.datasets.builder import OBJECTSAMPLERS

from projects.mmdet3d_plugin.datasets.info_files import BANK, ambiguous_boxes
from projects.mmdet3d_plugin.datasets.sparse.mining import footprint_overlaps


@PIPELINES.register_module()
class FillHoles:
    """Let an object of a random frame stand in each hole that removing a doubtful one has left ("instance filling").

    Holes are filled from the largest on. An object that is pasted turns with the box of its hole, stands on its bottom,
    touches no label and nothing that was mined, and becomes a label. Objects of the database are never changed. Put it after ``RemovePoints``.

    Args:
        db_sampler: config of an ``ObjectDatabase``.
        largest: how many times larger than its hole an object may be.
        chance: share of the holes that are filled.
    """

    def __init__(self, db_sampler: dict[str, Any], largest: float = 1.5, chance: float = 1.0) -> None:
        self.database = OBJECTSAMPLERS.build(db_sampler)
        self.largest, self.chance = largest, chance
        self.objects = [item for draw in self.database.sampler_dict.values() for item in draw.items]
        self.volumes = np.array([np.prod(item['box3d_lidar'][3:6]) for item in self.objects])

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add points, boxes and labels of what was pasted.

        Raises:
            UserError: the frame is of no derived set.
        """
        holes = np.asarray(ambiguous_boxes(results), np.float32)
        holes = holes[np.argsort(-holes[:, 3:6].prod(1), kind='stable')]
        standing = results['gt_bboxes_3d'].tensor.numpy()
        if BANK in results:  # what was mined here stands here even if it is no label of its own scene
            standing = np.concatenate([standing, np.asarray(results[BANK], np.float32)])
        pasted, labels, clouds = [], [], []
        for hole in holes:
            filled = self._fill(hole, standing) if np.random.rand() < self.chance else None
            if filled is not None:
                box, label, points = filled
                standing = np.concatenate([standing, box[None]])
                pasted.append(box)
                labels.append(label)
                clouds.append(points)
        return self._joined(results, pasted, labels, clouds) if pasted else results

    def _fill(self, hole: np.ndarray, standing: np.ndarray) -> tuple[np.ndarray, int, np.ndarray] | None:
        """Box (7,), label and points (k, 4) of an object for a hole; None where none fits or it would touch another."""
        fitting = np.flatnonzero(self.volumes < self.largest * hole[3:6].prod())
        if not len(fitting):
            return None
        item = self.objects[np.random.choice(fitting)]
        own = np.asarray(item['box3d_lidar'], np.float32)[:7]
        box = np.concatenate([hole[:3], own[3:6], hole[6:]])
        if (footprint_overlaps(box[None], standing) > 0).any():
            return None
        path = f'{self.database.data_root}/{item["path"]}'
        points = self.database.points_loader(dict(pts_filename=path))['points']
        points.rotate(float(box[6] - own[6]))
        points.translate(torch.from_numpy(box[:3]))
        return box, self.database.cat2label[item['name']], points.tensor.numpy()

    @staticmethod
    def _joined(
        results: dict[str, Any], pasted: list[np.ndarray], labels: list[int], clouds: list[np.ndarray]
    ) -> dict[str, Any]:
        """The frame with what was pasted behind its own."""
        boxes, points = results['gt_bboxes_3d'], results['points']
        results['gt_bboxes_3d'] = boxes.new_box(np.concatenate([boxes.tensor.numpy(), np.stack(pasted)]))
        results['gt_labels_3d'] = np.concatenate([results['gt_labels_3d'], labels]).astype(np.int64)
        added = LiDARPoints(torch.from_numpy(np.concatenate(clouds)), points.shape[1], points.attribute_dims)
        results['points'] = points.cat([points, added])
        return results

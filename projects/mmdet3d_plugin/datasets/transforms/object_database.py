"""Objects of other frames to paste into this one."""

from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets.builder import OBJECTSAMPLERS
from mmdet3d.datasets.pipelines.dbsampler import DataBaseSampler

Objects = dict[str, list[dict[str, Any]]]


@OBJECTSAMPLERS.register_module()
class ObjectDatabase(DataBaseSampler):
    """mmdet3d's database of objects, for its ``ObjectSample``, with chance that a seed decides.

    mmdet3d deals objects from a shuffled pile, so what a frame gets depends on the frames that the same worker loaded
    before. Here every frame draws anew, without repetition. Classes of which the database has no object are not
    pasted, which upstream fails on.

    Args:
        info_path: ``kitti_dbinfos_train.pkl`` of ``tools/create_data.py kitti``.
        data_root: folder that the paths in it are relative to.
        **kwargs: as for ``DataBaseSampler``.
    """

    def __init__(self, info_path: str, data_root: str, **kwargs: Any) -> None:
        if not Path(info_path).is_file():
            raise FileNotFoundError(
                f'there is no database of objects {info_path}; make it with: '
                f'python tools/create_data.py kitti --root-path {data_root}'
            )
        super().__init__(info_path, data_root, **kwargs)
        self.sampler_dict = {name: _Draw(self.db_infos.get(name, [])) for name in self.classes}

    @staticmethod
    def filter_by_min_points(db_infos: Objects, min_gt_points_dict: dict[str, int]) -> Objects:
        """Leave out objects that fewer points hit than their class asks for."""
        return {
            name: [item for item in items if item['num_points_in_gt'] >= min_gt_points_dict.get(name, 0)]
            for name, items in db_infos.items()
        }

    def sample_class_v2(self, name: str, num: int, gt_bboxes: np.ndarray) -> list[dict[str, Any]]:
        """Draw up to ``num`` objects of a class that touch neither the boxes (n, 7) nor each other."""
        return super().sample_class_v2(name, num, gt_bboxes) if len(self.sampler_dict[name]) else []


class _Draw:
    """Draws from a list without repetition, from numpy's global state."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, count: int) -> list[dict[str, Any]]:
        """Up to ``count`` items in random order."""
        chosen = np.random.choice(len(self.items), min(count, len(self.items)), replace=False)
        return [self.items[index] for index in chosen]

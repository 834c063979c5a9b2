"""Objects of other frames to paste into this one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets.builder import OBJECTSAMPLERS
from mmdet3d.datasets.pipelines.dbsampler import DataBaseSampler

from projects.mmdet3d_plugin.common.config_checks.numbers import is_number
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.safe_pickle import read_pickle
from projects.mmdet3d_plugin.datasets.info_checks import LARGEST
from projects.mmdet3d_plugin.datasets.info_files import create_command
from projects.mmdet3d_plugin.evaluation.rotated_iou import rectangle_iou

Objects = dict[str, list[dict[str, Any]]]
_PLANE = [0, 1, 3, 4, 6]
_NOTHING = np.zeros((0, 7), np.float32)
_READ = ('name', 'path', 'box3d_lidar', 'num_points_in_gt', 'difficulty')


@OBJECTSAMPLERS.register_module()
class ObjectDatabase(DataBaseSampler):
    """mmdet3d's database of objects, for its ``ObjectSample``, with chance that a seed decides.

    mmdet3d deals objects from a shuffled pile, so what a frame gets depends on the frames that the same worker loaded
    before. Here every frame draws anew, without repetition. Classes of which the database has no object are not
    pasted, which upstream fails on.

    Args:
        info_path: ``kitti_dbinfos_train.pkl`` of ``tools/create_data.py kitti``.
        data_root: folder that the paths in it are relative to.
        classes: names in the order of the labels.
        sample_groups: how many objects of each class a frame should have.
        **kwargs: as for ``DataBaseSampler``.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it holds something else, or no object of the classes; or a group's class has no label.
    """

    def __init__(
        self,
        info_path: str,
        data_root: str,
        *,
        classes: Sequence[str],
        sample_groups: Mapping[str, int],
        **kwargs: Any,
    ) -> None:
        command = create_command('kitti', data_root)
        if not Path(info_path).is_file():
            raise FileNotFoundError(f'there is no database of objects {info_path}; make it with: {command}')
        without_label = [name for name in sample_groups if name not in classes]
        if without_label:
            raise UserError(
                f'db_sampler: sample_groups has {without_label[0]!r}, which is not among classes {list(classes)}'
            )
        objects = read_pickle(info_path, f'make it with: {command}')
        _check_objects(info_path, objects, command)
        if sample_groups and not any(objects.get(name) for name in sample_groups):
            raise UserError(
                f'{info_path} has no object of {", ".join(sample_groups)}; its classes are {", ".join(objects) or "none"}: '
                'name those in sample_groups, or leave ObjectSample out'
            )
        super().__init__(
            info_path, data_root, classes=list(classes), sample_groups=dict(sample_groups), **kwargs
        )
        self._occupied = _NOTHING
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
        if not len(self.sampler_dict[name]):
            return []
        standing = np.concatenate([gt_bboxes[:, :7], self._occupied])
        drawn = super().sample_class_v2(name, num, standing)
        if not drawn or not len(standing):
            return drawn
        # upstream's test of crossing sides does not see an object that is put onto itself, in the frame it comes from
        boxes = np.stack([item['box3d_lidar'][_PLANE] for item in drawn])
        free = ~(rectangle_iou(boxes[:, None], standing[None][..., _PLANE]) > 0).any(1)
        return [item for item, is_free in zip(drawn, free, strict=True) if is_free]

    @contextmanager
    def avoiding(self, boxes: np.ndarray) -> Iterator[None]:
        """Keep clear of further boxes (n, 7), for a block."""
        self._occupied = boxes
        try:
            yield
        finally:
            self._occupied = _NOTHING


def _check_objects(path: str, objects: Any, command: str) -> None:
    """Refuse what is no dict of class -> objects with all that is read of them."""
    wrong = f'{path} is no database of objects'
    mend = f'make it with: {command}'
    if not isinstance(objects, dict) or not all(isinstance(items, list) for items in objects.values()):
        raise UserError(f'{wrong}, a list of objects by class; {mend}')
    for name, items in objects.items():
        for item in items:
            lacking = [key for key in _READ if not isinstance(item, dict) or key not in item]
            if lacking:
                raise UserError(f'{wrong}: an object of {name} lacks {", ".join(lacking)}; {mend}')
            if not isinstance(item['path'], str):
                raise UserError(f'{wrong}: the path of an object of {name} is {item["path"]!r}; {mend}')
            for key in ('num_points_in_gt', 'difficulty'):
                if not is_number(item[key]):
                    raise UserError(f'{path}: {key} of {item["path"]} is {item[key]!r}, no number; {mend}')
            box = np.asarray(item['box3d_lidar'])
            numbers = box.dtype.kind in 'fiu' and box.ndim == 1 and len(box) >= 7 and np.isfinite(box).all()
            if not numbers or not ((box[3:6] > 0) & (box[3:6] <= LARGEST)).all():
                raise UserError(
                    f'{path}: the box of {item["path"]} is not finite or has no possible size; {mend}'
                )


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

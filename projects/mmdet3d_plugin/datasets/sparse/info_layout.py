"""What sparse labels need of an info file, in the layouts of KITTI and of nuScenes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import info_file_name, lidar_boxes
from projects.mmdet3d_plugin.datasets.info_files import Info, create_command, load_infos, temporal_info_file
from projects.mmdet3d_plugin.datasets.kitti_dataset import KittiFrames, read_kitti_infos
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import CLASSES
from projects.mmdet3d_plugin.evaluation.kitti_format import frame_annotations

Content = Any
"""What an info file holds: a list of infos, or a dict with a list of them."""


class InfoLayout(ABC):
    """How an info file names its frames and objects. Boxes are (n, 7) float32, LiDAR frame, bottom centres, metres."""

    dataset: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def file_name(self, split: str) -> str:
        """The info file of a split, such as 'train' or 'train_sparse1_s0'."""

    @abstractmethod
    def read(self, path: Path) -> Content:
        """Read an info file.

        Raises:
            UserError: it is damaged or another dataset's.
        """

    def infos(self, content: Content) -> list[Info]:
        """The frames of a file's content."""
        return content

    def with_infos(self, content: Content, infos: Sequence[Info]) -> Content:
        """The same file with other frames."""
        return list(infos)

    @abstractmethod
    def frame(self, info: Info) -> str:
        """The name of a frame."""

    @abstractmethod
    def names(self, info: Info) -> np.ndarray:
        """(n,) class names of the objects."""

    @abstractmethod
    def boxes(self, info: Info) -> np.ndarray:
        """(n, 7) boxes of the objects."""

    @abstractmethod
    def point_counts(self, info: Info) -> np.ndarray:
        """(n,) LiDAR points in each object."""

    @abstractmethod
    def keep(self, info: Info, rows: Sequence[int]) -> Info:
        """The frame with some of its objects, by their rows."""

    @abstractmethod
    def add(self, info: Info, boxes: np.ndarray, names: np.ndarray, counts: np.ndarray) -> Info:
        """The frame with more objects behind its own.

        Args:
            info: of the frame.
            boxes: (n, 7).
            names: (n,) of their classes.
            counts: (n,) points in each.
        """


class KittiLayout(InfoLayout):
    """Info files of ``tools/create_data.py kitti``; DontCare is no object here."""

    dataset = 'kitti'
    classes = KittiFrames.CLASSES

    def file_name(self, split: str) -> str:
        """``kitti_infos_<split>.pkl``."""
        return info_file_name(split)

    def read(self, path: Path) -> Content:
        """A list of infos."""
        return read_kitti_infos(path, create_command('kitti', path.parent))

    def frame(self, info: Info) -> str:
        """Six digits."""
        return f'{info["image"]["image_idx"]:06d}'

    def names(self, info: Info) -> np.ndarray:
        """DontCare comes last in a file, and is left out."""
        names = info['annos']['name']
        return names[names != 'DontCare']

    def boxes(self, info: Info) -> np.ndarray:
        """From the frame of the camera."""
        return lidar_boxes(info)

    def point_counts(self, info: Info) -> np.ndarray:
        """As ``tools/create_data.py`` counted them."""
        return info['annos']['num_points_in_gt'][: len(self.names(info))]

    def keep(self, info: Info, rows: Sequence[int]) -> Info:
        """DontCare goes with what is hidden: whoever labels one object looks at no other."""
        rows = np.asarray(rows, dtype=np.int64)
        return dict(info, annos={key: value[rows] for key, value in info['annos'].items()})

    def add(self, info: Info, boxes: np.ndarray, names: np.ndarray, counts: np.ndarray) -> Info:
        """Image boxes stay zero: points have no use for them. Nobody has judged how much is hidden, so all count as easy."""
        own, classes = info['annos'], sorted(set(names.tolist()))
        found = frame_annotations(
            dict(
                boxes_3d=LiDARInstance3DBoxes(torch.from_numpy(boxes)),
                scores_3d=np.zeros(len(boxes)),
                labels_3d=np.array([classes.index(name) for name in names], dtype=np.int64),
            ),
            dict(info, image={key: value for key, value in info['image'].items() if key != 'image_shape'}),
            classes or [''],
        )
        begin = len(own['name'])
        places = np.arange(begin, begin + len(boxes), dtype=np.int32)
        added = {
            **found,
            'num_points_in_gt': counts.astype(np.int32),
            'difficulty': np.zeros(len(boxes), np.int32),
            'index': places,
            'group_ids': places,
        }
        return dict(
            info,
            annos={
                key: np.concatenate([value, added[key].astype(value.dtype) if key != 'name' else added[key]])
                for key, value in own.items()
            },
        )


class NuScenesLayout(InfoLayout):
    """Info files of ``tools/create_data.py nuscenes``."""

    dataset = 'nuscenes'
    classes = CLASSES
    _PER_OBJECT = ('gt_boxes', 'gt_names', 'gt_velocity', 'num_lidar_pts', 'num_radar_pts', 'valid_flag')

    def file_name(self, split: str) -> str:
        """``nuscenes_infos_temporal_<split>.pkl``."""
        return temporal_info_file(split)

    def read(self, path: Path) -> Content:
        """``dict(metadata, infos)``."""
        content = load_infos(path, 'v1.0')
        if any('gt_boxes' not in info for info in content['infos']):
            raise UserError(f'{path} holds no boxes, so none can be kept or hidden')
        return dict(metadata=content['metadata'], infos=content['infos'])

    def infos(self, content: Content) -> list[Info]:
        """Below ``infos``."""
        return content['infos']

    def with_infos(self, content: Content, infos: Sequence[Info]) -> Content:
        """Beside the same metadata."""
        return dict(content, infos=list(infos))

    def frame(self, info: Info) -> str:
        """The token of the sample."""
        return str(info['token'])

    def names(self, info: Info) -> np.ndarray:
        """Those of detection and all others of the tables."""
        return np.asarray(info['gt_names'], dtype=str)

    def boxes(self, info: Info) -> np.ndarray:
        """Files have centres of gravity."""
        boxes = np.array(info['gt_boxes'], np.float32).reshape(-1, 7)
        boxes[:, 2] -= boxes[:, 5] / 2
        return boxes

    def point_counts(self, info: Info) -> np.ndarray:
        """From the tables."""
        return np.asarray(info['num_lidar_pts'])

    def keep(self, info: Info, rows: Sequence[int]) -> Info:
        """All that there is per object."""
        rows = np.asarray(rows, dtype=np.int64)
        return {**info, **{key: np.asarray(info[key])[rows] for key in self._PER_OBJECT if key in info}}

    def add(self, info: Info, boxes: np.ndarray, names: np.ndarray, counts: np.ndarray) -> Info:
        """Mined boxes have no velocity: it is zero."""
        centred = boxes.astype(np.float64)
        centred[:, 2] += centred[:, 5] / 2
        added = dict(
            gt_boxes=centred,
            gt_names=names,
            gt_velocity=np.zeros((len(boxes), 2)),
            num_lidar_pts=counts,
            num_radar_pts=np.zeros(len(boxes), np.int64),
            valid_flag=np.ones(len(boxes), dtype=bool),
        )
        joined = {
            key: np.concatenate([np.asarray(info[key]), added[key]])
            for key in self._PER_OBJECT
            if key in info
        }
        return {**info, **joined}


LAYOUTS: dict[str, InfoLayout] = {layout.dataset: layout for layout in (KittiLayout(), NuScenesLayout())}
"""By the name that ``tools/create_data.py`` gives to a dataset."""

"""KITTI's point clouds, frame by frame: what LiDAR detectors train on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.datasets.builder import DATASETS
from mmdet3d.datasets import KittiDataset

from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import lidar_boxes
from projects.mmdet3d_plugin.datasets.info_files import find_info_file
from projects.mmdet3d_plugin.evaluation.kitti_format import frame_annotations, write_results
from projects.mmdet3d_plugin.evaluation.kitti_metric import CLASSES as EVALUATED
from projects.mmdet3d_plugin.evaluation.kitti_metric import evaluate_kitti

_HIDDEN = 3  # an occlusion that no difficulty counts


@DATASETS.register_module()
class KittiFrames(KittiDataset):
    """Single frames of a folder that ``tools/create_data.py kitti`` has prepared, through mmdet3d's own transforms.

    A collated batch has ``points``, for each sample (N_i, 4) x, y, z in metres (LiDAR frame) and reflectance, and
    ``img_metas``; in training also ``gt_bboxes_3d`` LiDARInstance3DBoxes (n, 7) and ``gt_labels_3d`` (n,).

    Args:
        data_root: folder in KITTI's layout.
        ann_file: info file, relative to ``data_root`` or absolute.
        pipeline: mmdet3d's transforms; the last is ``Collect3D``, or ``MultiScaleFlipAug3D`` in testing.
        classes: names to detect, in the order of the labels.
        split: 'training' or 'testing'.
        pts_prefix: folder of the point clouds: 'velodyne_reduced' holds what the camera sees, where labels are.
        point_cloud_range: (x0, y0, z0, x1, y1, z1), metres, LiDAR frame; predictions whose bottom centre lies outside
            are not evaluated. Passed on in ``img_metas`` as ``pc_range`` where ``Collect3D`` keeps it.
        test_mode: frames in order, without ground truth and without chance.
        filter_empty: in training, replace frames without a box of these classes by another one.
        truth_in_range: in evaluation, do not ask for objects whose bottom centre lies outside ``point_cloud_range``.
            That is for detectors with a short range, and no longer KITTI's protocol.
    """

    CLASSES = ('Pedestrian', 'Cyclist', 'Car')
    FORWARD = 0.0  # KITTI's cars drive along x, in radians counter-clockwise from x
    POINT_DIM = 4  # numbers per point in its files
    CREATE_OPTIONS = 'kitti'  # how tools/create_data.py makes its info files

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        pipeline: Sequence[dict[str, Any]],
        classes: Sequence[str] = CLASSES,
        split: str = 'training',
        pts_prefix: str = 'velodyne_reduced',
        point_cloud_range: Sequence[float] = (0, -40, -3, 70.4, 40, 1),
        test_mode: bool = False,
        filter_empty: bool = True,
        truth_in_range: bool = False,
    ) -> None:
        super().__init__(
            data_root=str(data_root),
            ann_file=str(find_info_file(ann_file, Path(data_root), self.CREATE_OPTIONS)),
            split=split,
            pts_prefix=pts_prefix,
            pipeline=list(pipeline),
            classes=_check_classes(classes),
            modality=dict(use_lidar=True, use_camera=False),
            box_type_3d='LiDAR',
            filter_empty_gt=filter_empty,
            test_mode=test_mode,
        )
        self.pc_range = list(point_cloud_range)
        self.truth_in_range = truth_in_range
        self.flag = np.zeros(len(self), dtype=np.uint8)  # mmdet's samplers group by it
        # Frames know nothing of each other: every one is a scene, and processes may share them out anywhere.
        self.scene_tokens = [f'{info["image"]["image_idx"]:06d}' for info in self.data_infos]
        if not test_mode:
            self._check_labels()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample ``index``.

        A :class:`~projects.mmdet3d_plugin.datasets.samplers.SeededIndex` makes all chance in it reproducible; a
        plain int draws from numpy's global state.
        """
        if self.test_mode:
            return self.prepare_test_data(int(index))
        seed = getattr(index, 'seed', None)
        with drawn_from(np.random.randint(2**31) if seed is None else seed):
            return self._train_sample(int(index))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from: paths, calibration and, in training, ground truth."""
        return dict(super().get_data_info(index), pc_range=list(self.pc_range))

    def get_frame(self, index: int) -> dict[str, Any]:
        """What there is to draw: the file of the point cloud and, where there are labels, the boxes of its classes."""
        frame = dict(pts_filename=self._get_pts_filename(self.data_infos[index]['image']['image_idx']))
        if 'annos' in self.data_infos[index]:
            annos = self.get_ann_info(index)
            known = annos['gt_labels_3d'] >= 0
            boxes = annos['gt_bboxes_3d'][torch.from_numpy(known)]
            frame['ann_info'] = dict(gt_bboxes_3d=boxes, gt_labels_3d=annos['gt_labels_3d'][known])
        return frame

    def evaluate(
        self, results: Sequence[dict[str, Any]], out_dir: str | None = None, full: bool | None = None
    ) -> dict[str, float]:
        """Score predictions by KITTI's protocol, on CPU.

        Args:
            results: per frame ``boxes_3d``, ``scores_3d`` and ``labels_3d``, or these below ``pts_bbox``.
            out_dir: gets ``kitti_results/<frame>.txt``, the files that KITTI's server takes.
            full: give all 192 figures; else the means at R40 and the classes' moderate 3D. By default, full when
                there is an ``out_dir``: between epochs nobody reads that many.

        Returns:
            Metrics of :func:`~projects.mmdet3d_plugin.evaluation.kitti_metric.evaluate_kitti`, fractions.
        """
        if len(results) != len(self):
            raise ValueError(
                f'{len(results)} predictions for {len(self)} frames: evaluation needs one per frame'
            )
        annotations = [
            frame_annotations(result, info, self.CLASSES, self.pc_range)
            for result, info in zip(results, self.data_infos, strict=True)
        ]
        if out_dir:
            write_results(annotations, self.data_infos, Path(out_dir) / 'kitti_results')
        metrics = evaluate_kitti(self._truth(), annotations, [c for c in EVALUATED if c in self.CLASSES])
        if full or (full is None and out_dir):
            return metrics
        return {key: value for key, value in metrics.items() if _is_headline(key)}

    def _train_sample(self, index: int) -> dict[str, Any]:
        """A sample that has something to learn from: ``index``, or a random other one."""
        for candidate in (index, *np.random.permutation(len(self))):
            sample = self.prepare_train_data(int(candidate))
            if sample is not None:
                return sample
        raise ValueError(
            f'no frame of {self.ann_file} keeps a box of {self.CLASSES} through the pipeline; set '
            'filter_empty=False to train on it all the same'
        )

    def _truth(self) -> list[dict[str, np.ndarray]]:
        """Labels of all frames; those that are not asked for are marked as hidden too much to count."""
        self._check_labels()
        if not self.truth_in_range:
            return [info['annos'] for info in self.data_infos]
        low, high = np.array(self.pc_range).reshape(2, 3)
        truth = []
        for info in self.data_infos:
            annos, place = info['annos'], lidar_boxes(info)[:, :3]
            outside = ~((place > low) & (place < high)).all(1)
            outside = np.pad(outside, (0, len(annos['name']) - len(outside)))  # DontCare comes last
            truth.append(dict(annos, occluded=np.where(outside, _HIDDEN, annos['occluded'])))
        return truth

    def _check_labels(self) -> None:
        if not all('annos' in info for info in self.data_infos):
            raise ValueError(
                f'{self.ann_file} holds no labels (KITTI keeps those of its test split); use it only to predict'
            )


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in classes if name not in EVALUATED]
    if unknown:
        raise ValueError(f'{unknown[0]!r} is no class of KITTI detection; choose of {", ".join(EVALUATED)}')
    return tuple(classes)


def _is_headline(key: str) -> bool:
    """Whether a metric is worth a line of the training log."""
    return (
        '_R40_' in key
        and 'loose' not in key
        and (key.startswith('mAP') or key.startswith('AP_3d_R40_moderate'))
    )

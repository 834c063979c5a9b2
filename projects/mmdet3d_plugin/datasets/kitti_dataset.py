"""KITTI's point clouds, frame by frame: what LiDAR detectors train on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from mmdet.datasets.builder import DATASETS
from mmdet3d.datasets import KittiDataset

from projects.mmdet3d_plugin.common.config_checks.numbers import is_number
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.common.safe_pickle import read_pickle
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import lidar_boxes
from projects.mmdet3d_plugin.datasets.info_checks import LARGEST, LARGEST_ANGLE
from projects.mmdet3d_plugin.datasets.info_files import create_command, find_info_file, mined_boxes
from projects.mmdet3d_plugin.datasets.point_files import describe_intensities, read_points
from projects.mmdet3d_plugin.evaluation.kitti_format import frame_annotations, write_results
from projects.mmdet3d_plugin.evaluation.kitti_metric import (
    MAX_OCCLUSION,
    MAX_TRUNCATION,
    MIN_HEIGHT,
    OVERLAPS,
    Annotations,
    evaluate_kitti,
)

_HIDDEN = 3  # an occlusion that no difficulty counts
_USUAL_OVERLAP = 0.5  # of classes for which KITTI has no protocol
# what of a label is read, and its numbers per object
_ANNOTATED = {
    'location': (3,), 'dimensions': (3,), 'rotation_y': (), 'bbox': (4,), 'truncated': (), 'occluded': (), 'alpha': (),
    'difficulty': (),
}  # fmt: skip


@DATASETS.register_module()
class KittiFrames(KittiDataset):
    """Single frames of a folder that ``tools/create_data.py kitti`` has prepared, through mmdet3d's own transforms.

    A collated batch has ``points``, for each sample (N_i, 4) x, y, z in metres (LiDAR frame) and reflectance, and
    ``img_metas``; in training also ``gt_bboxes_3d`` LiDARInstance3DBoxes (n, 7) and ``gt_labels_3d`` (n,).

    Args:
        data_root: folder in KITTI's layout.
        ann_file: info file, relative to ``data_root`` or absolute.
        pipeline: mmdet3d's transforms; the last is ``Collect3D``, or ``MultiScaleFlipAug3D`` in testing.
        classes: names to detect, in the order of the labels: KITTI's three or any others that the labels have.
        split: 'training' or 'testing'.
        pts_prefix: folder of the point clouds: 'velodyne_reduced' holds what the camera sees, where labels are.
        point_cloud_range: (x0, y0, z0, x1, y1, z1), metres, LiDAR frame; predictions whose bottom centre lies outside
            are not evaluated. Passed on in ``img_metas`` as ``pc_range`` where ``Collect3D`` keeps it.
        test_mode: frames in order, without ground truth and without chance.
        filter_empty: in training, replace frames without a box of these classes by another one.
        truth_in_range: in evaluation, do not ask for objects whose bottom centre lies outside ``point_cloud_range``.
            That is for detectors with a short range, and no longer KITTI's protocol.
        overlaps: the intersection over union that a detection of a class must exceed to be a hit. KITTI's own for
            its three classes and 0.5 for others, where this does not say otherwise.
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
        overlaps: Mapping[str, float] | None = None,
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
        self.overlaps = _overlaps_of(self.CLASSES, overlaps or {})
        # KITTI's own kind has images; a LiDAR-only folder has neither image boxes nor a view to cut to.
        self.has_images = all('image_shape' in info['image'] for info in self.data_infos)
        if pts_prefix == 'velodyne':
            self.POINT_DIM = max(
                (i['point_cloud'].get('num_features', 4) for i in self.data_infos), default=4
            )
        self.flag = np.zeros(len(self), dtype=np.uint8)  # mmdet's samplers group by it
        # Frames know nothing of each other: every one is a scene, and processes may share them out anywhere.
        self.scene_tokens = [f'{info["image"]["image_idx"]:06d}' for info in self.data_infos]
        self._say_intensities()
        if not test_mode:
            self._check_labels()
            self._check_present()
            self._say_dropped()

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

    def load_annotations(self, ann_file: IO[bytes]) -> list[dict[str, Any]]:
        """Infos of all frames; refuses a file that holds something else, or what cannot be right."""
        with ann_file:
            path = Path(ann_file.name)
        return read_kitti_infos(path, create_command(self.CREATE_OPTIONS, self.data_root))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from: paths, calibration and, in training, ground truth."""
        more = dict(pc_range=list(self.pc_range), **mined_boxes(self.data_infos[index]))
        if 'image_path' in self.data_infos[index]['image']:
            return dict(super().get_data_info(index), **more)
        number = self.data_infos[index]['image']['image_idx']
        found = dict(sample_idx=number, pts_filename=self._get_pts_filename(number), **more)
        return found if self.test_mode else dict(found, ann_info=self.get_ann_info(index))

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
        """Score predictions by KITTI's protocol, on CPU; without images, from above and in space only.

        Args:
            results: per frame ``boxes_3d``, ``scores_3d`` and ``labels_3d``, or these below ``pts_bbox``.
            out_dir: gets ``kitti_results/<frame>.txt``, the files that KITTI's server takes.
            full: give all figures; else the means at R40 and the classes' moderate 3D. By default, full when
                there is an ``out_dir``: between epochs nobody reads that many.

        Returns:
            Metrics of :func:`~projects.mmdet3d_plugin.evaluation.kitti_metric.evaluate_kitti`, fractions, without
            those that are not known since there is no such object. None at all, with a warning, where frames have
            no labels, as in KITTI's test split.

        Raises:
            UserError: no object is to be found, or predictions are not finite.
        """
        annotations = self._annotations(results)
        if out_dir:
            write_results(annotations, self.data_infos, Path(out_dir) / 'kitti_results')
        if not self.has_labels:
            get_logger().warning(
                '%s holds no labels (KITTI keeps those of its test split), so there are no scores%s',
                self.ann_file,
                f'; the files for its server are in {out_dir}/kitti_results' if out_dir else '',
            )
            return {}
        self.check_evaluation()
        metrics = evaluate_kitti(self._truth(), annotations, self.CLASSES, self.overlaps, self.has_images)
        self._say_means(metrics)
        known = {key: value for key, value in metrics.items() if not np.isnan(value)}
        if full or (full is None and out_dir):
            return known
        return {key: value for key, value in known.items() if _is_headline(key)}

    def format_results(self, results: Sequence[dict[str, Any]], out_dir: str | Path) -> Path:
        """Write predictions as KITTI's server takes them; labels are not needed.

        Args:
            results: as for :meth:`evaluate`.
            out_dir: gets ``kitti_results/<frame>.txt``.

        Returns:
            The folder of the text files.
        """
        folder = Path(out_dir) / 'kitti_results'
        write_results(self._annotations(results), self.data_infos, folder)
        return folder

    def check_evaluation(self) -> None:
        """Refuse a split that nothing can be scored on, before anything is trained or predicted.

        Raises:
            UserError: there are no frames, no labels, or no object of these classes.
        """
        if not self.data_infos:
            raise UserError(f'{self.ann_file} holds no frames, so there is nothing to evaluate on')
        self._check_labels()
        wanted = {name.lower() for name in self.CLASSES}
        for annos in self._truth():
            counted = (annos['occluded'] <= MAX_OCCLUSION[-1]) & (annos['truncated'] <= MAX_TRUNCATION[-1])
            if self.has_images:
                counted &= annos['bbox'][:, 3] - annos['bbox'][:, 1] > MIN_HEIGHT[-1]
            if wanted & {str(name).lower() for name in annos['name'][counted]}:
                return
        where = ' within point_cloud_range' if self.truth_in_range else ''
        raise UserError(
            f'{self.ann_file} holds no object of {", ".join(self.CLASSES)}{where} that counts at any difficulty, so '
            'there is nothing to evaluate: choose other classes or frames'
        )

    def metric_names(self) -> list[str]:
        """Names of what :meth:`evaluate` gives between epochs."""
        nothing = [_no_detections() for _ in self.data_infos]
        metrics = evaluate_kitti(self._truth(), nothing, self.CLASSES, self.overlaps, self.has_images)
        return [key for key, value in metrics.items() if _is_headline(key) and not np.isnan(value)]

    @property
    def has_labels(self) -> bool:
        """Whether frames have labels, which those of KITTI's test split do not."""
        return all('annos' in info for info in self.data_infos)

    def _annotations(self, results: Sequence[dict[str, Any]]) -> list[Annotations]:
        """Predictions of all frames in KITTI's terms."""
        if len(results) != len(self):
            raise UserError(
                f'{len(results)} predictions for {len(self)} frames: evaluation needs one per frame'
            )
        return [
            frame_annotations(result, info, self.CLASSES, self.pc_range)
            for result, info in zip(results, self.data_infos, strict=True)
        ]

    def _say_means(self, metrics: dict[str, float]) -> None:
        """Log which classes means are over, and by which overlaps others than KITTI's own were scored."""
        recalled = {name: metrics[f'AP_3d_R40_hard/{name}'] for name in self.CLASSES}
        known = [name for name, value in recalled.items() if not np.isnan(value)]
        none = [name for name in recalled if name not in known]
        get_logger().info(
            'KITTI: means are over %s%s',
            ', '.join(known),
            f'; there is no {" or ".join(none)} to be found' if none else '',
        )
        own = {name: value for name, value in self.overlaps.items() if OVERLAPS.get(name) != value}
        if own:
            get_logger().info(
                'KITTI: scored at an overlap that is not of its protocol: %s (overlaps of the dataset says otherwise)',
                ', '.join(f'{name} {value:g}' for name, value in own.items()),
            )

    def _train_sample(self, index: int) -> dict[str, Any]:
        """A sample that has something to learn from: ``index``, or a random other one."""
        for candidate in (index, *np.random.permutation(len(self))):
            sample = self.prepare_train_data(int(candidate))
            if sample is not None:
                return sample
        raise UserError(
            f'no frame of {self.ann_file} keeps a box of {self.CLASSES} through the pipeline; set '
            'filter_empty=False to train on it all the same'
        )

    def _truth(self) -> list[dict[str, np.ndarray]]:
        """Labels of all frames; those that are not asked for are marked as hidden too much to count."""
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

    def get_cat_ids(self, index: int) -> list[int]:
        """Labels of the classes in a frame, each once: what balancing wrappers ask for."""
        names = {str(name) for name in self.data_infos[index]['annos']['name']}
        return [label for label, name in enumerate(self.CLASSES) if name in names]

    def _check_labels(self) -> None:
        if not self.has_labels:
            raise UserError(
                f'{self.ann_file} holds no labels (KITTI keeps those of its test split); use it only to predict, '
                'with tools/test.py --format-only'
            )

    def _check_present(self) -> None:
        """Refuse labels that have none of the classes, and warn of classes that no label has."""
        present = {str(name) for info in self.data_infos for name in info['annos']['name']} - {'DontCare'}
        absent = [name for name in self.CLASSES if name not in present]
        if not absent or not self.data_infos:
            return
        what = f'{self.ann_file} has no object of {", ".join(absent)}; its classes are {", ".join(sorted(present)) or "none"}'
        if len(absent) == len(self.CLASSES) and self.filter_empty_gt:
            raise UserError(f'{what}: say which of them to learn with classes, or set filter_empty=False')
        get_logger().warning('%s', what)

    def _say_intensities(self) -> None:
        """Warn where the first cloud has intensities that are not KITTI's."""
        for info in self.data_infos[:1]:
            first = Path(self._get_pts_filename(info['image']['image_idx']))
            if first.is_file() and (odd := describe_intensities(first, read_points(first, self.POINT_DIM))):
                get_logger().warning('%s', odd)

    def _say_dropped(self) -> None:
        """Warn once of what tools/create_data.py has left out."""
        dropped = [info['point_cloud'].get('num_dropped', 0) for info in self.data_infos]
        if any(dropped):
            get_logger().warning(
                '%d points in the .bin files of %d frames of %s have coordinates or intensities that are not finite; '
                'tools/create_data.py left them out',
                sum(dropped),
                np.count_nonzero(dropped),
                self.ann_file,
            )


def read_kitti_infos(path: Path, mend: str) -> list[dict[str, Any]]:
    """Infos of KITTI's frames, of this project or of mmdet3d.

    Args:
        path: the pickle.
        mend: the command that makes it.

    Raises:
        UserError: the file is damaged or another dataset's, or an info lacks what is needed or holds impossible
            numbers.
    """
    infos = read_pickle(path, f'make it with: {mend}')
    keys = 'like those of nuScenes' if isinstance(infos, dict) and 'infos' in infos else type(infos).__name__
    if not isinstance(infos, list):
        raise UserError(
            f'{path} is no info file of KITTI, a list of frames, but {keys}; make it with: {mend}'
        )
    seen: set[int] = set()
    for place, info in enumerate(infos):
        try:
            number = _checked_frame(info)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f'lacks {error}' if isinstance(error, KeyError) else str(error)
            raise UserError(f'{path}: frame {place} {what}; make the file again with: {mend}') from error
        if number in seen:
            raise UserError(f'{path} lists frame {number:06d} twice; make the file again with: {mend}')
        seen.add(number)
    return infos


def _checked_frame(info: dict[str, Any]) -> int:
    """The number of a frame after a look at what is read of it.

    Raises:
        ValueError, or the KeyError or TypeError of what is not there.
    """
    number = int(info['image']['image_idx'])
    info['point_cloud'].get('num_features')
    shape = info['image'].get('image_shape', (1, 1))
    if len(shape) != 2 or not all(is_number(side) and side > 0 for side in shape):
        raise ValueError(
            f'({number:06d}) has image_shape {list(shape)}, which is no height and width in pixels'
        )
    for name in ('R0_rect', 'Tr_velo_to_cam', *(('P2',) if 'image_path' in info['image'] else ())):
        matrix = np.asarray(info['calib'][name], np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
            raise ValueError(
                f'({number:06d}) has a calibration {name} that is no finite, invertible 4x4 matrix'
            )
    if 'annos' not in info:
        return number
    annos = info['annos']
    cared = np.asarray(annos['name'], dtype=str) != 'DontCare'
    for key, width in _ANNOTATED.items():
        values = np.asarray(annos[key], np.float64)
        if values.shape != (len(cared), *width):
            raise ValueError(f'({number:06d}) has {key} of shape {values.shape} for {len(cared)} objects')
        if not np.isfinite(values[cared]).all():
            raise ValueError(f'({number:06d}) has {key} that are not finite')
    sizes = np.asarray(annos['dimensions'])[cared]
    if not ((sizes > 0) & (sizes <= LARGEST)).all():
        raise ValueError(f'({number:06d}) has objects of negative size or none, or larger than {LARGEST:g} m')
    if (np.abs(np.asarray(annos['rotation_y'], np.float64)[cared]) > LARGEST_ANGLE).any():
        raise ValueError(f'({number:06d}) has rotation_y that is no angle in radians')
    return number


def _no_detections() -> Annotations:
    """Annotations of a frame in which nothing was found."""
    widths = dict(bbox=4, dimensions=3, location=3)
    keys = ('name', 'alpha', 'bbox', 'dimensions', 'location', 'rotation_y', 'score')
    return {key: np.zeros((0, widths[key]) if key in widths else 0) for key in keys}


def _overlaps_of(classes: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    """The overlap that a detection of each class must exceed."""
    for name, value in given.items():
        if name not in classes:
            raise UserError(
                f'overlaps names {name!r}, which is no class of the dataset: {", ".join(classes)}'
            )
        if not 0 < value < 1:
            raise UserError(f'overlaps[{name!r}] is {value}; an overlap lies between 0 and 1')
    return {name: given.get(name, OVERLAPS.get(name, _USUAL_OVERLAP)) for name in classes}


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not classes or not all(isinstance(name, str) for name in classes):
        raise UserError(
            f'classes must be a list of names such as {list(KittiFrames.CLASSES)}, not {classes!r}'
        )
    twice = [name for name, count in Counter(name.lower() for name in classes).items() if count > 1]
    if twice or 'DontCare' in classes:
        wrong = f'{twice[0]!r} stands there twice' if twice else "'DontCare' marks what does not count"
        raise UserError(
            f'classes are {list(classes)}, but {wrong}; KITTI compares names without regard to case'
        )
    return tuple(classes)


def _is_headline(key: str) -> bool:
    """Whether a metric is worth a line of the training log."""
    return (
        '_R40_' in key
        and 'loose' not in key
        and (key.startswith('mAP') or key.startswith('AP_3d_R40_moderate'))
    )

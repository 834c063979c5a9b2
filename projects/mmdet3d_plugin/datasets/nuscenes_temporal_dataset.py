"""nuScenes as short clips of one scene: what temporal camera detectors train on."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.parallel import DataContainer
from mmdet.datasets.builder import DATASETS, PIPELINES
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.datasets.builder import PIPELINES as MMDET3D_PIPELINES
from mmdet3d.datasets.pipelines import Compose
from nuscenes.eval.common.utils import quaternion_yaw
from pyquaternion import Quaternion
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.geometry import transform_matrix
from projects.mmdet3d_plugin.common.suggest import nearest
from projects.mmdet3d_plugin.datasets.info_files import Info, find_info_file, load_infos
from projects.mmdet3d_plugin.datasets.nuscenes_truth import check_truth
from projects.mmdet3d_plugin.evaluation.nuscenes_metric import EVALUATORS, evaluate_nuscenes, metric_names
from projects.mmdet3d_plugin.evaluation.nuscenes_predictions import NuScenesPredictions

CLASSES = (
    'car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian',
    'traffic_cone',
)  # fmt: skip


@DATASETS.register_module()
class NuScenesTemporalDataset(Dataset):
    """A queue of T frames of one scene per sample, oldest first; the last one is the frame to detect in.

    In training T - 1 of the T frames before the current one are drawn at random, so that the network meets
    different speeds. Before the start of a scene the earliest frame stands in, with ``prev_bev_exists=False``.
    In testing T is 1, and the metas refer to the frame before it in the scene.

    A collated batch has ``img`` (B, T, num_cams, 3, H, W) and ``img_metas``, for each sample a list of T dicts.
    Metas beside those of calibration and shape:

    - ``can_bus`` (18,): ego position (3) and yaw in degrees (last) as differences to the frame before, zero without
      one; orientation wxyz (4), acceleration, rotation rate and velocity (3 each), absolute yaw in radians.
    - ``prev_bev_exists``: whether there is a frame before, in this queue or, in testing, in this scene;
      ``prev_token``: its sample token, '' without one.

    Args:
        data_root: folder in the layout of nuScenes.
        ann_file: info file, relative to ``data_root`` or absolute.
        pipeline: transforms of one frame; the last is ``FormatFrame``.
        classes: names to detect, in the order of the labels.
        queue_length: T; 1 in testing, where the caller carries the temporal state.
        point_cloud_range: (x0, y0, z0, x1, y1, z1), metres, LiDAR frame; only passed on in the metas.
        test_mode: frames in order, without ground truth and without chance.
        info_convention: box convention of the info file; 'legacy' for files of BEVFormer and mmdet3d < 1.0.
        use_valid_flag: in training, leave out boxes that no LiDAR or radar point hits.
        filter_empty: in training, replace samples without a box of these classes by another one.
        random_queue: False takes the T - 1 frames right before the current one in training too. A short queue learns
            velocities sooner when frames are as far apart as in testing.
    """

    FORWARD = np.pi / 2  # nuScenes' cars drive along y, in radians counter-clockwise from x
    POINT_DIM = 5  # numbers per point in its files
    EVALUATORS = EVALUATORS
    SENSOR = 'camera'  # what predictions are made from; submission files say so
    CREATE_OPTIONS = (
        'nuscenes --version v1.0-trainval (or v1.0-mini)'  # how tools/create_data.py makes its info files
    )

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        pipeline: Sequence[dict[str, Any]],
        classes: Sequence[str] = CLASSES,
        queue_length: int = 1,
        point_cloud_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        test_mode: bool = False,
        info_convention: str = 'v1.0',
        use_valid_flag: bool = True,
        filter_empty: bool = True,
        random_queue: bool = True,
    ) -> None:
        self.data_root = Path(data_root)
        self.ann_file = find_info_file(ann_file, self.data_root, self.CREATE_OPTIONS)
        content = load_infos(self.ann_file, info_convention)
        self.infos: list[Info] = content['infos']
        self.metadata: dict[str, Any] = content['metadata']
        self.cameras: tuple[str, ...] = content['cameras']
        for name in classes:
            if name not in CLASSES:
                raise UserError(
                    f'{name!r} is no class of nuScenes detection; {nearest(name, CLASSES, count=2)}'
                )
        self.CLASSES = tuple(classes)
        self.pipeline = _build_pipeline(pipeline)
        if queue_length < 1 or (test_mode and queue_length != 1):
            raise UserError(f'queue_length={queue_length}: it must be at least 1, and 1 with test_mode=True')
        self.queue_length = queue_length
        self.pc_range = list(point_cloud_range)
        self.test_mode = test_mode
        self.use_valid_flag = use_valid_flag
        self.filter_empty = filter_empty
        self.random_queue = random_queue
        self.scene_tokens = [info['scene_token'] for info in self.infos]
        self.flag = np.zeros(len(self.infos), dtype=np.uint8)  # mmdet's samplers group by it
        self._scene_start = _scene_starts(self.scene_tokens)
        if not test_mode:
            self._check_labels()

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample of the current frame ``index``.

        A :class:`~projects.mmdet3d_plugin.datasets.samplers.SeededIndex` makes all chance in it reproducible; a
        plain int draws from numpy's global state.
        """
        seed = getattr(index, 'seed', None)
        if seed is None:  # testing leaves numpy's global state alone: training may go on after it
            seed = 0 if self.test_mode else np.random.randint(2**31)
        rng, index = np.random.default_rng(seed), int(index)
        if not self.test_mode and self.filter_empty:
            index = self._with_targets(index, rng)
        return self._queue(self._draw_queue(index, rng), rng)

    def get_ann_info(self, index: int) -> dict[str, Any]:
        """Ground truth of a frame.

        Returns:
            ``gt_bboxes_3d`` LiDARInstance3DBoxes (n, 9), ``gt_labels_3d`` (n,) int64 and ``gt_names`` (n,), of the
            boxes of these classes (and, with ``use_valid_flag``, in training, those that some point hits).
        """
        info = self.infos[index]
        if 'gt_boxes' not in info:
            raise self._unlabelled(info)
        mask = self._target_mask(info)
        boxes = np.hstack([info['gt_boxes'], info['gt_velocity']])[mask]
        names = np.asarray(info['gt_names'])[mask]
        return dict(
            gt_bboxes_3d=LiDARInstance3DBoxes(boxes.astype(np.float32), box_dim=9, origin=(0.5, 0.5, 0.5)),
            gt_labels_3d=np.array([self.CLASSES.index(name) for name in names], dtype=np.int64),
            gt_names=names,
        )

    def get_cat_ids(self, index: int) -> list[int]:
        """Labels of the classes in a frame, each once: what balancing wrappers ask for."""
        names = set(np.asarray(self.infos[index]['gt_names'])[self._target_mask(self.infos[index])])
        return [label for label, name in enumerate(self.CLASSES) if name in names]

    def get_frame(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from: paths, calibration and poses of one frame, all freshly made."""
        info = self.infos[index]
        cams = [info['cams'][name] for name in self.cameras]
        frame = dict(
            sample_token=info['token'],
            scene_token=info['scene_token'],
            timestamp=info['timestamp'] / 1e6,
            pts_filename=str(self.data_root / info['lidar_path']),
            sweeps=self._sweeps(info),
            img_filename=[str(self.data_root / cam['data_path']) for cam in cams],
            img_size=[(cam['width'], cam['height']) if 'width' in cam else None for cam in cams],
            cam_names=list(self.cameras),
            cam_intrinsic=np.array([cam['cam_intrinsic'] for cam in cams], dtype=np.float64),
            cam2lidar=np.array(
                [
                    transform_matrix(cam['sensor2lidar_rotation'], cam['sensor2lidar_translation'])
                    for cam in cams
                ]
            ),
            lidar2ego=transform_matrix(info['lidar2ego_rotation'], info['lidar2ego_translation']),
            ego2global=transform_matrix(info['ego2global_rotation'], info['ego2global_translation']),
            can_bus=absolute_can_bus(info),
            box_type_3d=LiDARInstance3DBoxes,
            pc_range=list(self.pc_range),
            bbox3d_fields=[],
        )
        if 'gt_boxes' in info:
            frame['ann_info'] = self.get_ann_info(index)
        return frame

    def format_results(self, results: Sequence[dict[str, Any]], out_dir: str | Path) -> Path:
        """Write predictions, in the order of this dataset, as a nuScenes submission file."""
        return self._predictions(results).write(Path(out_dir) / 'results_nusc.json')

    def evaluate(
        self,
        results: Sequence[dict[str, Any]],
        out_dir: str | Path | None = None,
        evaluator: str = 'arrays',
        **_: Any,
    ) -> dict[str, float]:
        """NDS, mAP and the errors of true positives, as nuScenes' devkit computes them.

        Args:
            results: per sample ``dict(boxes_3d, scores_3d, labels_3d)``, in the order of this dataset.
            out_dir: gets the submission file and the devkit's summary; by default they are not written.
            evaluator: 'arrays', or 'devkit' for the devkit's own code, which gives the same numbers and takes far longer.

        Returns:
            See :func:`~projects.mmdet3d_plugin.evaluation.nuscenes_metric.evaluate_nuscenes`.
        """
        return evaluate_nuscenes(
            self._predictions(results),
            self.data_root,
            *self._version_and_split(),
            out_dir,
            self.CLASSES,
            self.metadata.get('scenes'),
            cache_dir=self.ann_file.parent,
            evaluator=evaluator,
        )

    def check_evaluation(self) -> None:
        """Look for what :meth:`evaluate` will need: tables, samples, and boxes to find.

        Raises:
            UserError: something is not there; names it and the mend.
        """
        check_truth(self.ann_file, self.infos, self.CLASSES, self.data_root, self._version_and_split()[0])

    def metric_names(self) -> list[str]:
        """Names of the metrics that :meth:`evaluate` gives."""
        return metric_names(self.CLASSES)

    def _predictions(self, results: Sequence[dict[str, Any]]) -> NuScenesPredictions:
        return NuScenesPredictions.from_results(results, self.infos, self.CLASSES, self.SENSOR)

    def _version_and_split(self) -> tuple[str, str]:
        """From the metadata; official BEVFormer files do not name their split, but their file name does."""
        version = self.metadata.get('version', 'v1.0-trainval')
        part = 'train' if 'train' in self.ann_file.name else 'val'
        return version, self.metadata.get('split', f'mini_{part}' if version == 'v1.0-mini' else part)

    def _target_mask(self, info: Info) -> np.ndarray:
        mask = np.isin(info['gt_names'], self.CLASSES)
        if self.use_valid_flag and not self.test_mode and 'valid_flag' in info:
            mask = mask & np.asarray(info['valid_flag'], dtype=bool)
        return mask

    def _with_targets(self, index: int, rng: np.random.Generator) -> int:
        """``index``, or a random other sample when it has nothing to learn from."""
        if self._has_targets(index):
            return index
        for candidate in rng.permutation(len(self)):
            if self._has_targets(candidate):
                return int(candidate)
        raise self._without_targets()

    def _check_labels(self) -> None:
        """Refuse an info file that there is nothing to learn from, before training begins."""
        for info in self.infos:
            if 'gt_boxes' not in info:
                raise self._unlabelled(info)
        if self.infos and self.filter_empty and not any(map(self._has_targets, range(len(self)))):
            raise self._without_targets()

    def _unlabelled(self, info: Info) -> UserError:
        return UserError(
            f'{self.ann_file} holds no boxes (sample {info["token"]}); it cannot be used to train, only to predict '
            '(tools/test.py --format-only)'
        )

    def _without_targets(self) -> UserError:
        """What empties the samples, and what helps."""
        what = f'no sample of {self.ann_file} has a box of {self.CLASSES} within {self.pc_range}'
        present = {str(name) for info in self.infos for name in info['gt_names']}
        if not present & set(self.CLASSES):
            return UserError(
                f'{what}; its classes are {", ".join(sorted(present)) or "none"}: choose of them (classes)'
            )
        if self.use_valid_flag:
            self.use_valid_flag = False
            helps = any(map(self._has_targets, range(len(self))))
            self.use_valid_flag = True
            if helps:
                return UserError(
                    f'{what} that a LiDAR or radar point hits; set use_valid_flag=False to train on boxes without points'
                )
        return UserError(
            f'{what}; widen point_cloud_range, or set filter_empty=False to train on it all the same'
        )

    def _has_targets(self, index: int) -> bool:
        info = self.infos[index]
        centers = info['gt_boxes'][self._target_mask(info), :2]
        return bool(((centers > self.pc_range[:2]) & (centers < self.pc_range[3:5])).all(1).any())

    def _draw_queue(self, index: int, rng: np.random.Generator) -> list[int]:
        """Indices of T frames of one scene, ascending, the last is ``index``."""
        earlier = np.arange(index - self.queue_length, index)
        if not self.random_queue:
            return [max(int(i), self._scene_start[index]) for i in earlier[1:]] + [index]
        kept = np.sort(rng.choice(earlier, self.queue_length - 1, replace=False)) if len(earlier) > 1 else []
        return [max(int(i), self._scene_start[index]) for i in kept] + [index]

    def _queue(self, indices: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """Load the frames and join them."""
        frames: list[dict[str, Any]] = []
        first = indices[0]
        previous = first - 1 if self.test_mode and first > self._scene_start[first] else None
        shared = rng.bit_generator.jumped()  # what is drawn from it leaves rng as it is
        for index in indices:
            if frames and index == previous:  # stands in before the scene's start: nothing new to load
                # arrays are shared, metas are its own
                frames.append(
                    {
                        key: copy.deepcopy(value) if key.endswith('img_metas') else value
                        for key, value in frames[-1].items()
                    }
                )
            else:
                queue_rng = np.random.Generator(copy.deepcopy(shared))
                frames.append(self._load(index, previous, rng, queue_rng, index == indices[-1]))
            previous = index
        return _join(frames)

    def _load(
        self,
        index: int,
        previous: int | None,
        rng: np.random.Generator,
        queue_rng: np.random.Generator,
        is_current: bool,
    ) -> dict[str, Any]:
        """Run the pipeline on one frame and tie it to the one before it; all frames of a queue draw one ``queue_rng``."""
        frame = self.get_frame(index)
        frame['rng'], frame['queue_rng'], frame['is_current'] = rng, queue_rng, is_current
        motion = self._motion(frame['can_bus'], previous)
        loaded = self.pipeline(frame)
        for key in loaded:
            if key.endswith('img_metas'):
                loaded[key].data.update(copy.deepcopy(motion))
        return loaded

    def _motion(self, can_bus: np.ndarray, previous: int | None) -> dict[str, Any]:
        """The metas that tie a frame to the one before it: ``can_bus`` with deltas, and who that was."""
        can_bus = can_bus.copy()
        if previous is None:
            can_bus[:3], can_bus[-1] = 0, 0
            return dict(can_bus=can_bus, prev_bev_exists=False, prev_token='')
        before = absolute_can_bus(self.infos[previous])
        can_bus[:3] -= before[:3]
        # Within (-180, 180]: the delta must not jump by a full turn when yaw passes zero.
        can_bus[-1] = 180 - (180 - can_bus[-1] + before[-1]) % 360
        return dict(can_bus=can_bus, prev_bev_exists=True, prev_token=self.infos[previous]['token'])

    def _sweeps(self, info: Info) -> list[dict[str, Any]]:
        """Earlier clouds; they carry microseconds, as mmdet3d's transforms expect, beside a frame that carries seconds."""
        return [{**sweep, 'data_path': str(self.data_root / sweep['data_path'])} for sweep in info['sweeps']]


def absolute_can_bus(info: Info) -> np.ndarray:
    """(18,) float64 ego state with the pose of the LiDAR keyframe and its yaw in [0, 2 pi) and [0, 360)."""
    can_bus = np.array(info['can_bus'], dtype=np.float64)
    rotation = Quaternion(info['ego2global_rotation'])
    can_bus[:3] = info['ego2global_translation']
    can_bus[3:7] = rotation.elements
    yaw = quaternion_yaw(rotation) % (2 * np.pi)
    can_bus[-2], can_bus[-1] = yaw, np.degrees(yaw)
    return can_bus


def _scene_starts(scene_tokens: list[str]) -> list[int]:
    """For every index, that of the first frame of its scene; scenes are contiguous."""
    starts: list[int] = []
    for i, token in enumerate(scene_tokens):
        starts.append(starts[-1] if i and token == scene_tokens[i - 1] else i)
    return starts


def _build_pipeline(transforms: Sequence[dict[str, Any]]) -> Compose:
    """Compose the transforms; an unknown name is answered with the nearest known ones."""
    known = {**PIPELINES.module_dict, **MMDET3D_PIPELINES.module_dict}
    for transform in transforms:
        name = transform.get('type') if isinstance(transform, dict) else None
        if isinstance(name, str) and name not in known:
            raise UserError(f'there is no transform {name!r}; {nearest(name, known)}')
    return Compose(transforms)


def _join(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the frames of a queue: images along T, metas in a list, the rest from the last frame."""
    out = dict(frames[-1])
    for key in frames[-1]:
        if key.endswith('img_metas'):
            out[key] = DataContainer([frame[key].data for frame in frames], cpu_only=True)
        elif key.endswith('img'):
            images = [frame[key].data for frame in frames]
            images = torch.stack(images) if len(images) > 1 else images[0][None]  # a view: no copy in testing
            out[key] = DataContainer(images, stack=True, pad_dims=None)
    return out

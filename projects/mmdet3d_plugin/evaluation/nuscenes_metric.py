"""Predictions -> nuScenes submission file -> NDS, mAP and friends, computed by the devkit."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
    load_prediction_of_sample_tokens,
)
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionConfig, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.common.logs import get_logger

Info = dict[str, Any]  # one sample of an info file

ERROR_NAMES = {
    'trans_err': 'mATE',
    'scale_err': 'mASE',
    'orient_err': 'mAOE',
    'vel_err': 'mAVE',
    'attr_err': 'mAAE',
}
# (moving, standing) attribute of each class: what detectors without an attribute head answer
ATTRIBUTES = {
    'car': ('vehicle.moving', 'vehicle.parked'),
    'truck': ('vehicle.moving', 'vehicle.parked'),
    'construction_vehicle': ('vehicle.moving', 'vehicle.parked'),
    'bus': ('vehicle.moving', 'vehicle.stopped'),
    'trailer': ('vehicle.moving', 'vehicle.parked'),
    'motorcycle': ('cycle.with_rider', 'cycle.without_rider'),
    'bicycle': ('cycle.with_rider', 'cycle.without_rider'),
    'pedestrian': ('pedestrian.moving', 'pedestrian.standing'),
    'barrier': ('', ''),
    'traffic_cone': ('', ''),
}
_MOVING_SPEED = 0.2  # m/s
_MAX_BOXES = 500  # the devkit refuses more per sample


def format_results(
    results: Sequence[dict[str, Any]],
    infos: Sequence[Info],
    classes: Sequence[str],
    out_dir: str | Path,
    sensor: str = 'camera',
) -> Path:
    """Write predictions as a nuScenes submission file.

    Args:
        results: per sample ``boxes_3d`` LiDARInstance3DBoxes (n, 9) in the LiDAR frame, ``scores_3d`` (n,) and
            ``labels_3d`` (n,), in the order of ``infos``.
        infos: samples of the info file.
        classes: name of each label.
        out_dir: made when it is not there.
        sensor: 'camera' or 'lidar', what the predictions were made from; the file says so.

    Returns:
        Path of ``results_nusc.json``.
    """
    if len(results) != len(infos):
        raise UserError(
            f'{len(results)} predictions for {len(infos)} samples: evaluation needs one per sample'
        )
    boxes = {i['token']: sample_boxes(r, i, classes) for r, i in zip(results, infos, strict=True)}
    meta = {f'use_{name}': name == sensor for name in ('camera', 'lidar', 'radar', 'map', 'external')}
    path = Path(out_dir) / 'results_nusc.json'
    return write_json(path, dict(meta=meta, results=boxes))


def sample_boxes(result: dict[str, Any], info: Info, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Predictions of one sample, from the LiDAR frame to the devkit's global frame."""
    scores = np.asarray(result['scores_3d'], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise UserError(f'scores for sample {info["token"]} are not finite: the network has diverged')
    best = np.argsort(-scores, kind='stable')[:_MAX_BOXES]
    labels = np.asarray(result['labels_3d'])[best]
    centers = np.asarray(result['boxes_3d'].gravity_center, dtype=np.float64)[best]
    boxes = np.asarray(result['boxes_3d'].tensor, dtype=np.float64)[best]
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise UserError(f'predictions for sample {info["token"]} are not finite: the network has diverged')
    rotation, translation = _lidar2global(info)
    centers = centers @ rotation.rotation_matrix.T + translation
    velocity = (np.pad(boxes[:, 7:9], ((0, 0), (0, 1))) @ rotation.rotation_matrix.T)[:, :2]
    names = [classes[int(label)] for label in labels]
    standing = np.hypot(*velocity.T) <= _MOVING_SPEED
    fields = dict(
        translation=centers.tolist(),
        size=boxes[:, [4, 3, 5]].tolist(),  # the devkit's order is width, length, height
        rotation=_turn(rotation, boxes[:, 6]).tolist(),
        velocity=velocity.tolist(),
        detection_name=names,
        detection_score=scores[best].tolist(),
        attribute_name=[ATTRIBUTES[name][int(still)] for name, still in zip(names, standing, strict=True)],
    )
    rows = zip(*fields.values(), strict=True)
    return [dict(zip(fields, row, strict=True), sample_token=info['token']) for row in rows]


def _turn(rotation: Quaternion, yaw: np.ndarray) -> np.ndarray:
    """Quaternions wxyz (n, 4) of a turn by ``yaw`` (n,) about z, followed by ``rotation``."""
    c, s = np.cos(yaw / 2), np.sin(yaw / 2)
    w, x, y, z = rotation.elements
    return np.stack([w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s], axis=1)


def evaluate_nuscenes(
    result_path: str | Path,
    data_root: str | Path,
    version: str,
    split: str,
    out_dir: str | Path,
    classes: Sequence[str] = tuple(ATTRIBUTES),
    scenes: Sequence[str] | None = None,
) -> dict[str, float]:
    """Score a submission file with the devkit's detection evaluation.

    The samples of the file are scored. When they are not the whole split, a warning says so.

    Args:
        result_path: file of :func:`format_results`.
        data_root: folder in the layout of nuScenes.
        version: of the tables, e.g. ``'v1.0-trainval'``.
        split: official split the samples belong to, e.g. ``'val'`` or ``'mini_train'``.
        out_dir: ``metrics_summary.json`` goes here.
        classes: that the detector knows.
        scenes: names of the scenes of the split, when it is no official one.

    Returns:
        ``NDS``, ``mAP``, ``mATE``, ``mASE``, ``mAOE``, ``mAVE``, ``mAAE`` over all ten classes, as the official figures
        are, and ``AP/<class>`` of the given ones; where these are fewer, also the means over them, named
        ``NDS/own classes`` and so on, without those that none of them has. In [0, 1] and up.

    Raises:
        UserError: there are no samples, others than the tables have, or no ground truth for them.
    """
    tokens = list(json.loads(Path(result_path).read_text())['results'])
    if not tokens:
        raise UserError(
            f'nothing to evaluate: {result_path} holds no samples (is the split {split!r} empty?)'
        )
    nusc = NuScenes(version=version, dataroot=str(data_root), verbose=False)
    _check_tokens(nusc, tokens, split, scenes)
    with _quiet():
        evaluation = _TokenEval(nusc, _detection_config(), result_path, split, out_dir, tokens)
        _require_truth(evaluation.gt_boxes, result_path)
        metrics, _ = evaluation.evaluate()
    write_json(Path(out_dir) / 'metrics_summary.json', metrics.serialize(), indent=2)
    _warn_about_convention(metrics)
    _say_classes(classes, evaluation.gt_boxes)
    return _summary(metrics, classes)


def metric_names(classes: Sequence[str]) -> list[str]:
    """Names of the metrics of a detector of these classes, see :func:`evaluate_nuscenes`."""
    means = ['NDS', 'mAP', *ERROR_NAMES.values()]
    own = [] if len(classes) == len(ATTRIBUTES) else [f'{name}/own classes' for name in means]
    return [*means, *own, *(f'AP/{name}' for name in ATTRIBUTES if name in classes)]


def _require_truth(boxes: EvalBoxes, result_path: str | Path) -> None:
    if not boxes.all:
        raise UserError(
            f'there is no ground truth for {result_path}: the devkit leaves out boxes without a LiDAR or radar point and '
            'those that are far from the car, and no box is left'
        )


def _say_classes(classes: Sequence[str], truth: EvalBoxes) -> None:
    """One notice each: means over classes that the detector does not know, and classes that nothing is of."""
    if len(classes) < len(ATTRIBUTES):
        get_logger().warning(
            'NDS, mAP and the errors are the official means over the ten classes of nuScenes, of which this detector '
            'knows %d (%s); means over these are named "own classes"',
            len(classes),
            ', '.join(classes),
        )
    present = {box.detection_name for box in truth.all}
    absent = [name for name in classes if name not in present]
    if absent:
        get_logger().warning(
            'there is no ground truth of the classes %s: each counts with AP 0 and errors of 1',
            ', '.join(absent),
        )


class _TokenEval(DetectionEval):
    """The devkit's evaluation on given samples; its own constructor insists on whole splits."""

    def __init__(
        self,
        nusc: NuScenes,
        config: DetectionConfig,
        result_path: str | Path,
        split: str,
        out_dir: str | Path,
        tokens: list[str],
    ) -> None:
        self.nusc, self.cfg, self.eval_set = nusc, config, split
        self.result_path, self.output_dir, self.verbose = str(result_path), str(out_dir), False
        predictions, self.meta = load_prediction_of_sample_tokens(
            self.result_path, config.max_boxes_per_sample, DetectionBox, tokens
        )
        truth = load_gt_of_sample_tokens(nusc, tokens, DetectionBox)
        self.pred_boxes, self.gt_boxes = self._in_range(predictions), self._in_range(truth)
        self.sample_tokens = self.gt_boxes.sample_tokens

    def _in_range(self, boxes: EvalBoxes) -> EvalBoxes:
        """The devkit's filter, which fails on no boxes at all: those of a network that found nothing."""
        if not boxes.all:
            return boxes
        return filter_eval_boxes(self.nusc, add_center_dist(self.nusc, boxes), self.cfg.class_range)


def _detection_config() -> DetectionConfig:
    config = config_factory('detection_cvpr_2019')
    config.class_names = list(config.class_names)  # dict_keys cannot be pickled, nor sent to another process
    return config


def _check_tokens(nusc: NuScenes, tokens: list[str], split: str, scenes: Sequence[str] | None) -> None:
    """Every predicted sample must be in the tables; say when they are not the whole split."""
    known = {sample['token'] for sample in nusc.sample}
    unknown = [token for token in tokens if token not in known]
    if unknown:
        raise UserError(
            f'{len(unknown)} predicted samples (first {unknown[0]}) are not in {nusc.table_root}; the info file '
            'belongs to another data root or version, make it again with tools/create_data.py'
        )
    names = set(scenes if scenes is not None else create_splits_scenes().get(split, ()))
    own = {scene['token'] for scene in nusc.scene if scene['name'] in names}
    whole = sum(sample['scene_token'] in own for sample in nusc.sample)
    if len(tokens) != whole:
        warnings.warn(
            f'{len(tokens)} of the {whole} samples of split {split!r} are scored: no official result'
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow the devkit's prints and progress bars; exceptions pass."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _summary(metrics: DetectionMetrics, classes: Sequence[str]) -> dict[str, float]:
    out = {'NDS': float(metrics.nd_score), 'mAP': float(metrics.mean_ap)}
    out.update({ERROR_NAMES[key]: float(value) for key, value in metrics.tp_errors.items()})
    if len(classes) < len(ATTRIBUTES):
        out.update({f'{name}/own classes': value for name, value in _means_over(metrics, classes).items()})
    out.update({f'AP/{n}': float(value) for n, value in metrics.mean_dist_aps.items() if n in classes})
    return out


def _means_over(metrics: DetectionMetrics, classes: Sequence[str]) -> dict[str, float]:
    """NDS, mAP and errors by the devkit's formula over some classes; errors that none of them has are left out."""
    mean_ap = float(np.mean([metrics.mean_dist_aps[name] for name in classes]))
    errors = {}
    for key, short in ERROR_NAMES.items():
        values = [metrics.get_label_tp(name, key) for name in classes]
        if not np.isnan(values).all():
            errors[short] = float(np.nanmean(values))
    weight = metrics.cfg.mean_ap_weight
    score = weight * mean_ap + sum(max(0.0, 1.0 - error) for error in errors.values())
    return {'NDS': score / (weight + len(errors)), 'mAP': mean_ap, **errors}


def _warn_about_convention(metrics: DetectionMetrics) -> None:
    """Width and length swapped and headings a quarter turn off are the mark of a wrong box convention."""
    # A class that was never found counts as error 1 and says nothing about boxes.
    found = [name for name, ap in metrics.mean_dist_aps.items() if ap > 0]
    scale, orientation = (
        np.ma.masked_invalid([metrics.get_label_tp(name, key) for name in found]).mean()
        for key in ('scale_err', 'orient_err')
    )
    if found and scale > 0.5 and orientation > 1.0:
        warnings.warn(
            f'mASE {scale:.2f} and mAOE {orientation:.2f} over the classes found: boxes of the wrong convention look '
            'like this; check info_convention and box_convention (legacy or v1.0)'
        )


def _lidar2global(info: Info) -> tuple[Quaternion, np.ndarray]:
    """Rotation and translation from the LiDAR frame to the global frame."""
    lidar, ego = Quaternion(info['lidar2ego_rotation']), Quaternion(info['ego2global_rotation'])
    translation = ego.rotate(np.array(info['lidar2ego_translation'])) + np.array(
        info['ego2global_translation']
    )
    return ego * lidar, translation

"""Scores of nuScenes' detection task for a detector's predictions: NDS, mAP and the five errors of true positives."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nuscenes.utils.splits import create_splits_scenes

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.evaluation.nuscenes_annotations import NuScenesAnnotations
from projects.mmdet3d_plugin.evaluation.nuscenes_boxes import CLASSES, NuScenesBoxes
from projects.mmdet3d_plugin.evaluation.nuscenes_detection import (
    Summary,
    detection_score,
    keep_scored,
    score_detections,
)
from projects.mmdet3d_plugin.evaluation.nuscenes_devkit import score_with_devkit
from projects.mmdet3d_plugin.evaluation.nuscenes_predictions import NuScenesPredictions

EVALUATORS = ('arrays', 'devkit')
_FOUND = 0.1  # AP from which a class counts as found
ERROR_NAMES = {
    'trans_err': 'mATE',
    'scale_err': 'mASE',
    'orient_err': 'mAOE',
    'vel_err': 'mAVE',
    'attr_err': 'mAAE',
}


def evaluate_nuscenes(
    predictions: NuScenesPredictions,
    data_root: str | Path,
    version: str,
    split: str,
    out_dir: str | Path | None = None,
    classes: Sequence[str] = CLASSES,
    scenes: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    evaluator: str = 'arrays',
) -> dict[str, float]:
    """Score predictions as nuScenes' devkit does.

    When the samples are not the whole split, a warning says so.

    Args:
        predictions: in the global frame.
        data_root: folder in the layout of nuScenes.
        version: of the tables, e.g. ``'v1.0-trainval'``.
        split: official split the samples belong to, e.g. ``'val'`` or ``'mini_train'``.
        out_dir: gets ``results_nusc.json``, a submission file, and ``metrics_summary.json``.
        classes: that the detector knows.
        scenes: names of the scenes of the split, when it is no official one.
        cache_dir: keeps the annotations as arrays, ``data_root`` by default.
        evaluator: 'arrays', or 'devkit' for nuScenes' own code, which gives the same numbers and takes far longer.

    Returns:
        ``NDS``, ``mAP``, ``mATE``, ``mASE``, ``mAOE``, ``mAVE``, ``mAAE`` over all ten classes, as the official figures
        are, and ``AP/<class>`` of the given ones; where these are fewer, also the means over them, named
        ``NDS/own classes`` and so on, without those that none of them has. In [0, 1] and up.

    Raises:
        UserError: there are no samples, others than the tables have, or no ground truth for them, or there is no such
            evaluator.
    """
    if evaluator not in EVALUATORS:
        raise UserError(f'there is no evaluator {evaluator!r}; choose one of {", ".join(EVALUATORS)}')
    if not predictions.tokens:
        raise UserError(
            f'nothing to evaluate: the info file holds no samples (is the split {split!r} empty?)'
        )
    data_root = Path(data_root)
    known = NuScenesAnnotations.load(data_root, version, Path(cache_dir or data_root))
    _check_tokens(known, predictions.tokens, split, scenes, data_root / version)
    annotations = known.of_samples(predictions.tokens)
    truth = keep_scored(annotations, predictions.ego, annotations)
    _require_truth(truth, data_root / version)
    if out_dir is not None:
        predictions.write(Path(out_dir) / 'results_nusc.json')
    if evaluator == 'devkit':
        summary = _devkit_summary(predictions, data_root, version, split, out_dir)
    else:
        summary = score_detections(keep_scored(predictions.boxes, predictions.ego, annotations), truth)
    if out_dir is not None:
        write_json(Path(out_dir) / 'metrics_summary.json', summary, indent=2)
    _warn_about_convention(summary)
    _say_classes(classes, truth)
    return _figures(summary, classes)


def metric_names(classes: Sequence[str]) -> list[str]:
    """Names of the metrics of a detector of these classes, see :func:`evaluate_nuscenes`."""
    means = ['NDS', 'mAP', *ERROR_NAMES.values()]
    own = [] if len(classes) == len(CLASSES) else [f'{name}/own classes' for name in means]
    return [*means, *own, *(f'AP/{name}' for name in CLASSES if name in classes)]


def _devkit_summary(
    predictions: NuScenesPredictions, data_root: Path, version: str, split: str, out_dir: str | Path | None
) -> Summary:
    """The devkit's scores of the submission file, which is thrown away when nobody asked for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder if out_dir is None else out_dir) / 'results_nusc.json'
        if out_dir is None:
            predictions.write(path)
        return score_with_devkit(path, data_root, version, split, predictions.tokens)


def _check_tokens(
    known: NuScenesAnnotations, tokens: list[str], split: str, scenes: Sequence[str] | None, tables: Path
) -> None:
    """Every predicted sample must be in the tables; say when they are not the whole split."""
    unknown = [token for token, there in zip(tokens, np.isin(tokens, known.tokens), strict=True) if not there]
    if unknown:
        raise UserError(
            f'{len(unknown)} predicted samples (first {unknown[0]}) are not in {tables}; the info file '
            'belongs to another data root or version, make it again with tools/create_data.py'
        )
    names = list(scenes if scenes is not None else create_splits_scenes().get(split, ()))
    whole = int(np.isin(known.scenes, names).sum())
    if len(tokens) != whole:
        warnings.warn(
            f'{len(tokens)} of the {whole} samples of split {split!r} are scored: no official result'
        )


def _require_truth(truth: NuScenesBoxes, tables: Path) -> None:
    if not len(truth):
        raise UserError(
            f'there is no ground truth for these samples in {tables}: the devkit leaves out boxes without a LiDAR or '
            'radar point and those that are far from the car, and no box is left'
        )


def _say_classes(classes: Sequence[str], truth: NuScenesBoxes) -> None:
    """One notice each: means over classes that the detector does not know, and classes that nothing is of."""
    if len(classes) < len(CLASSES):
        get_logger().warning(
            'NDS, mAP and the errors are the official means over the ten classes of nuScenes, of which this detector '
            'knows %d (%s); means over these are named "own classes"',
            len(classes),
            ', '.join(classes),
        )
    present = {CLASSES[label] for label in np.unique(truth.label)}
    absent = [name for name in classes if name not in present]
    if absent:
        get_logger().warning(
            'there is no ground truth of the classes %s: each counts with AP 0 and errors of 1',
            ', '.join(absent),
        )


def _figures(summary: Summary, classes: Sequence[str]) -> dict[str, float]:
    """Metrics by our names."""
    out = {'NDS': float(summary['nd_score']), 'mAP': float(summary['mean_ap'])}
    out.update({ERROR_NAMES[key]: float(value) for key, value in summary['tp_errors'].items()})
    if len(classes) < len(CLASSES):
        out.update({f'{name}/own classes': value for name, value in _means_over(summary, classes).items()})
    out.update({f'AP/{n}': float(value) for n, value in summary['mean_dist_aps'].items() if n in classes})
    return out


def _means_over(summary: Summary, classes: Sequence[str]) -> dict[str, float]:
    """NDS, mAP and errors by the devkit's formula over some classes; errors that none of them has are left out."""
    mean_ap = float(np.mean([summary['mean_dist_aps'][name] for name in classes]))
    errors = {}
    for key, short in ERROR_NAMES.items():
        values = [summary['label_tp_errors'][name][key] for name in classes]
        if not np.isnan(values).all():
            errors[short] = float(np.nanmean(values))
    score = detection_score(mean_ap, errors, summary['cfg']['mean_ap_weight'])
    return {'NDS': score, 'mAP': mean_ap, **errors}


def _warn_about_convention(summary: Summary) -> None:
    """Width and length swapped and headings a quarter turn off are the mark of a wrong box convention."""
    # A class that was hardly ever found says nothing about boxes: guesses are of any size and heading.
    found = [name for name, ap in summary['mean_dist_aps'].items() if ap > _FOUND]
    scale, orientation = (
        np.ma.masked_invalid([summary['label_tp_errors'][name][key] for name in found]).mean()
        for key in ('scale_err', 'orient_err')
    )
    if found and scale > 0.5 and orientation > 1.0:
        warnings.warn(
            f'mASE {scale:.2f} and mAOE {orientation:.2f} over the classes found: boxes of the wrong convention look '
            'like this; check info_convention and box_convention (legacy or v1.0)'
        )

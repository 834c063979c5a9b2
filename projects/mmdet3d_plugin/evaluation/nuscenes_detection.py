"""nuScenes' detection scores over arrays: the numbers of the devkit, which holds an object per box, in a fraction of its time.

Predictions and truth are matched once for all classes and samples. A prediction takes the nearest true box of its class
that no better one has taken, if that is nearer than a threshold. All predictions of a sample order its true boxes by
distance, and all true boxes order predictions by score, so that this greedy rule gives the one stable matching, which
rounds of proposals (Gale and Shapley, 1962) find for all samples at the same time.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionConfig
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.evaluation.nuscenes_annotations import BIKE_RACK
from projects.mmdet3d_plugin.evaluation.nuscenes_boxes import CLASSES, NO_ATTRIBUTE, NuScenesBoxes

RECALLS = np.linspace(0, 1, 101)
_PAIRS_AT_ONCE = 1_000_000
_CYCLES = [CLASSES.index(name) for name in ('bicycle', 'motorcycle')]
# no error of these is defined: cones look the same from all sides, and neither moves or has attributes
_UNDEFINED = {'traffic_cone': ('attr_err', 'vel_err', 'orient_err'), 'barrier': ('attr_err', 'vel_err')}

Summary = dict[str, Any]  # what the devkit writes as metrics_summary.json


def detection_config() -> DetectionConfig:
    """Ranges and thresholds of the official evaluation."""
    config = config_factory('detection_cvpr_2019')
    config.class_names = list(config.class_names)  # dict_keys cannot be pickled, nor sent to another process
    return config


def keep_scored(boxes: NuScenesBoxes, ego: np.ndarray, annotations: NuScenesBoxes) -> NuScenesBoxes:
    """Leave out what the devkit leaves out: far boxes, boxes without a point, and cycles in a rack.

    Args:
        boxes: true or predicted ones, bicycle racks or not; those are left out too.
        ego: (samples, 2) metres, the car in the global frame.
        annotations: of the same samples, with the bicycle racks.
    """
    boxes = boxes.take(boxes.label != BIKE_RACK)
    reach = detection_config().class_range
    limit = np.array([reach[name] for name in CLASSES], dtype=np.float64)[boxes.label]
    away = boxes.translation[:, :2] - ego[boxes.sample]
    boxes = boxes.take((np.sqrt(away[:, 0] ** 2 + away[:, 1] ** 2) < limit) & (boxes.points != 0))
    return boxes.take(~_in_a_rack(boxes, annotations.take(annotations.label == BIKE_RACK)))


def _in_a_rack(boxes: NuScenesBoxes, racks: NuScenesBoxes) -> np.ndarray:
    """(n,) which cycles have their centre in a bicycle rack of their sample."""
    inside = np.zeros(len(boxes), dtype=bool)
    cycles = np.flatnonzero(np.isin(boxes.label, _CYCLES))
    spans = zip(
        *(np.searchsorted(boxes.sample[cycles], racks.sample, side) for side in ('left', 'right')),
        strict=True,
    )
    for rack, (start, end) in enumerate(spans):
        if start < end:
            rows = cycles[start:end]
            box = Box(racks.translation[rack], racks.size[rack], Quaternion(racks.rotation[rack]))
            inside[rows] |= points_in_box(box, boxes.translation[rows].T)
    return inside


def score_detections(found: NuScenesBoxes, truth: NuScenesBoxes) -> Summary:
    """AP of every class and distance, the five errors, and NDS.

    Args:
        found: predictions that :func:`keep_scored` has kept.
        truth: true boxes that it has kept, of the same samples.

    Returns:
        What the devkit writes as ``metrics_summary.json``, keys and order included.

    Raises:
        UserError: a box that counts has a size that is not positive.
    """
    begin = time.time()
    config = detection_config()
    # Of equal scores the later one comes first, as in the devkit.
    order = np.argsort(found.score, kind='stable')[::-1]
    pairs = _near_pairs(found, truth, order, max(config.dist_ths))
    matches = {limit: _match(pairs, len(found), len(truth), limit) for limit in config.dist_ths}
    label_aps: dict[str, dict[float, float]] = {}
    label_tp_errors: dict[str, dict[str, float]] = {}
    for name in config.class_names:
        label = CLASSES.index(name)
        ranked = np.flatnonzero(found.label[order] == label)  # ranks, ascending
        positives = int((truth.label == label).sum())
        curves = {
            limit: _Curve.of(found.score[order[ranked]], match[ranked] >= 0, positives)
            for limit, match in matches.items()
        }
        label_aps[name] = {
            limit: _average_precision(curve, config.min_recall, config.min_precision)
            for limit, curve in curves.items()
        }
        hit = ranked[matches[config.dist_th_tp][ranked] >= 0]
        errors = _errors(found.take(order[hit]), truth.take(matches[config.dist_th_tp][hit]), name)
        label_tp_errors[name] = {
            metric: np.nan
            if metric in _UNDEFINED.get(name, ())
            else _mean_error(curves[config.dist_th_tp], errors[metric], config.min_recall)
            for metric in TP_METRICS
        }
    return {
        **_summarise(label_aps, label_tp_errors, config),
        'eval_time': time.time() - begin,
        'cfg': config.serialize(),
    }


@dataclass(frozen=True)
class _Pairs:
    """Predictions and true boxes of one class and sample that are near each other.

    Sorted by rank of the prediction, then by distance, then by the place of the true box.
    """

    rank: np.ndarray
    truth: np.ndarray
    distance: np.ndarray


def _near_pairs(found: NuScenesBoxes, truth: NuScenesBoxes, order: np.ndarray, limit: float) -> _Pairs:
    """All pairs nearer than ``limit`` metres; ``order`` (n,) has the best prediction first."""
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    own, other = (boxes.sample * len(CLASSES) + boxes.label for boxes in (found, truth))
    by_group = np.argsort(other, kind='stable')
    start = np.searchsorted(other[by_group], own, 'left')
    count = np.searchsorted(other[by_group], own, 'right') - start
    parts = []
    for rows in _chunks(count):
        left = np.repeat(rows, count[rows])
        first = np.cumsum(count[rows]) - count[rows]
        right = by_group[np.arange(len(left)) + np.repeat(start[rows] - first, count[rows])]
        away = found.translation[left, :2] - truth.translation[right, :2]
        near = np.flatnonzero((np.abs(away) <= limit).all(axis=1))
        distance = _norm(away[near])
        close = distance < limit
        parts.append((rank[left[near[close]]], right[near[close]], distance[close]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    by_rank = np.lexsort((columns[1], columns[2], columns[0]))
    return _Pairs(*(column[by_rank] for column in columns))


def _chunks(count: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in parts of about a million pairs, at least one part."""
    total = np.cumsum(count)
    last = int(total[-1]) if len(total) else 0
    cuts = np.searchsorted(total, np.arange(_PAIRS_AT_ONCE, last, _PAIRS_AT_ONCE))
    yield from np.split(np.arange(len(count)), np.unique(cuts))


def _match(pairs: _Pairs, found: int, truth: int, limit: float) -> np.ndarray:
    """The true box that the prediction of every rank takes, (found,), -1 for none.

    Args:
        pairs: candidates.
        found: number of predictions.
        truth: number of true boxes.
        limit: metres, from which on a pair is no match.
    """
    near = pairs.distance < limit
    rank, box = pairs.rank[near], pairs.truth[near]
    choice = np.searchsorted(rank, np.arange(found), 'left')  # the pair that each prediction asks for now
    end = np.searchsorted(rank, np.arange(found), 'right')
    holder = np.full(truth, found)
    asking = np.flatnonzero(choice < end)
    while len(asking):
        wanted = box[choice[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        refused = asking[holder[wanted] != asking]
        replaced = np.unique(before[(before < found) & (holder[wanted] != before)])
        asking = np.concatenate([refused, replaced])
        choice[asking] += 1
        asking = asking[choice[asking] < end[asking]]
    match = np.full(found, -1)
    taken = np.flatnonzero(holder < found)
    match[holder[taken]] = taken
    return match


@dataclass(frozen=True)
class _Curve:
    """Precision and score at 101 recalls, and the scores of the matches, descending."""

    precision: np.ndarray
    score: np.ndarray
    matched: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, hit: np.ndarray, positives: int) -> '_Curve':
        """Predictions of one class, the best first: ``score`` (n,), ``hit`` (n,) whether matched."""
        if not hit.any():
            return cls(np.zeros(len(RECALLS)), np.zeros(len(RECALLS)), score[:0])
        right, wrong = np.cumsum(hit).astype(float), np.cumsum(~hit).astype(float)
        recall = right / float(positives)
        precision = np.interp(RECALLS, recall, right / (wrong + right), right=0)
        return cls(precision, np.interp(RECALLS, recall, score, right=0), score[hit])


def _average_precision(curve: _Curve, min_recall: float, min_precision: float) -> float:
    """Area above the least precision, over recalls above the least recall, as a fraction of what there could be."""
    precision = curve.precision[round(100 * min_recall) + 1 :] - min_precision
    precision[precision < 0] = 0
    return float(np.mean(precision)) / (1.0 - min_precision)


def _mean_error(curve: _Curve, errors: np.ndarray, min_recall: float) -> float:
    """Mean over the recalls that were reached of the running mean of an error (matches,); 1 when none was."""
    first, reached = round(100 * min_recall) + 1, np.flatnonzero(curve.score)
    last = reached[-1] if len(reached) else 0
    if last < first:
        return 1.0
    if not len(errors):
        return 1.0
    running = np.interp(curve.score[::-1], curve.matched[::-1], _running_mean(errors)[::-1])[::-1]
    return float(np.mean(running[first : last + 1]))


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of all values up to each, without those that are NaN; 1 when all are."""
    unknown = np.isnan(values)
    if unknown.all():
        return np.ones(len(values))
    total, count = np.nancumsum(values), np.cumsum(~unknown)
    return np.divide(total, count, out=np.zeros_like(total), where=count != 0)


def _errors(found: NuScenesBoxes, truth: NuScenesBoxes, name: str) -> dict[str, np.ndarray]:
    """The five errors of matched boxes of a class, (matches,) each."""
    if (found.size <= 0).any() or (truth.size <= 0).any():
        raise UserError(
            f'a {name} has a width, length or height that is not positive: nothing can be scored on such boxes'
        )
    period = np.pi if name == 'barrier' else 2 * np.pi  # a barrier's front and back look the same
    attribute = np.where(truth.attribute == NO_ATTRIBUTE, np.nan, truth.attribute != found.attribute)
    return dict(
        trans_err=_norm(found.translation[:, :2] - truth.translation[:, :2]),
        scale_err=1 - _aligned_iou(truth.size, found.size),
        orient_err=np.abs((_yaw(truth.rotation) - _yaw(found.rotation) + period / 2) % period - period / 2),
        vel_err=_norm(found.velocity - truth.velocity),
        attr_err=attribute,
    )


def _norm(vectors: np.ndarray) -> np.ndarray:
    """Lengths of (n, 2) vectors, to the last bit those of ``np.linalg.norm`` of each: through BLAS's dot product."""
    return np.sqrt((vectors[:, None, :] @ vectors[:, :, None])[:, 0, 0])


def _aligned_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlap of boxes (n, 3) over their union, if they had the same centre and heading."""
    shared, one, other = (s[:, 0] * s[:, 1] * s[:, 2] for s in (np.minimum(first, second), first, second))
    return shared / (one + other - shared)


def _yaw(rotation: np.ndarray) -> np.ndarray:
    """Heading of the x axis that quaternions wxyz (n, 4) turn, in radians."""
    w, x, y, z = (rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).T
    return np.arctan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)


def _summarise(
    label_aps: dict[str, dict[float, float]],
    label_tp_errors: dict[str, dict[str, float]],
    config: DetectionConfig,
) -> Summary:
    """Means over classes and distances, and NDS, in the order of the devkit's sums."""
    mean_dist_aps = {name: float(np.mean(list(aps.values()))) for name, aps in label_aps.items()}
    mean_ap = float(np.mean(list(mean_dist_aps.values())))
    errors = {
        metric: float(np.nanmean([label_tp_errors[name][metric] for name in config.class_names]))
        for metric in TP_METRICS
    }
    return dict(
        label_aps=label_aps,
        mean_dist_aps=mean_dist_aps,
        mean_ap=mean_ap,
        label_tp_errors=label_tp_errors,
        tp_errors=errors,
        tp_scores=scores_of(errors),
        nd_score=detection_score(mean_ap, errors, config.mean_ap_weight),
    )


def scores_of(errors: dict[str, float]) -> dict[str, float]:
    """One minus each error, at least 0."""
    return {name: max(0.0, 1.0 - error) for name, error in errors.items()}


def detection_score(mean_ap: float, errors: dict[str, float], weight: float) -> float:
    """NDS: the weighted mean of mAP and the scores of the errors."""
    total = float(weight * mean_ap + np.sum(list(scores_of(errors).values())))
    return total / float(weight + len(errors))

"""Waymo's average precision over plain boxes: AP and APH at LEVEL_1 and LEVEL_2."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from projects.mmdet3d_plugin.evaluation.rotated_iou import box_iou

Frame = dict[str, Any]

OVERLAPS = {'Vehicle': 0.7, 'Pedestrian': 0.5, 'Cyclist': 0.5}  # the overlap that a hit must reach
CUTOFFS = np.arange(101) / 100  # scores at which precision and recall are measured
LEVELS = (1, 2)
_FEW_POINTS = 5  # objects with so few LiDAR points are of LEVEL_2
_RECALL_STEP = 0.05  # a gap of recall beyond this is not bridged by a straight line


def evaluate_waymo(
    truth: Sequence[Frame],
    detections: Sequence[Frame],
    overlaps: dict[str, float] | None = None,
    cutoffs: Sequence[float] = CUTOFFS,
) -> dict[str, float]:
    """Average precision by the protocol of Waymo's 3D detection.

    At every score cutoff, the detections of a frame that reach it are matched to its labels one to one such that the
    sum of overlaps is greatest. A match is a hit whatever the label's level, and a label without a match is a miss
    only at its own level and above. APH weighs each hit by how well its heading fits: 1 when equal, 0 half a turn off.

    Args:
        truth: per frame ``boxes`` (n, 7) x, y, z of the centre, length, width, height in metres and yaw, ``names``
            (n,), ``num_points`` (n,) LiDAR points in the box, and optionally ``difficulty`` (n,), 2 for what the
            annotators found hard. Objects without points do not count at all.
        detections: of the same frames ``boxes`` (m, 7), ``names`` (m,) and ``scores`` (m,) in 0..1.
        overlaps: IoU that a hit must reach, by class; Waymo's own by default.
        cutoffs: rising scores.

    Returns:
        Fractions ``AP_L1/<class>``, ``APH_L1/<class>``, the same for L2, and the means over classes ``mAP_L1`` and so
        on. NaN where there is nothing to find; the means leave it out.
    """
    if len(truth) != len(detections):
        raise ValueError(
            f'{len(detections)} predictions for {len(truth)} frames: evaluation needs one per frame'
        )
    cutoffs = np.asarray(cutoffs, np.float64)
    out: dict[str, float] = {}
    for name, least in (overlaps or OVERLAPS).items():
        counts = sum(
            (_count(_Frame.of(t, d, name), least, cutoffs) for t, d in zip(truth, detections, strict=True)),
            start=np.zeros((len(LEVELS), len(cutoffs), 4)),
        )
        for level, row in zip(LEVELS, counts, strict=True):
            out[f'AP_L{level}/{name}'], out[f'APH_L{level}/{name}'] = _scores(*row.T)
    for kind in ('AP_L1', 'APH_L1', 'AP_L2', 'APH_L2'):
        known = [v for key, v in out.items() if key.startswith(f'{kind}/') and not np.isnan(v)]
        out[f'm{kind}'] = float(np.mean(known)) if known else float('nan')
    return out


@dataclass(frozen=True)
class _Frame:
    """Labels and detections of one class in one frame.

    Attributes:
        level: (n,) 1 or 2, of labels.
        scores: (m,) of detections.
        overlaps: (m, n).
        headings: (m, n) how well headings fit, 0..1.
    """

    level: np.ndarray
    scores: np.ndarray
    overlaps: np.ndarray
    headings: np.ndarray

    @classmethod
    def of(cls, truth: Frame, detections: Frame, name: str) -> '_Frame':
        """Pick one class."""
        points = np.asarray(truth['num_points'])
        kept = (np.asarray(truth['names'], dtype=str) == name) & (points > 0)
        hard = np.asarray(truth.get('difficulty', np.zeros(len(points)))) == 2
        level = np.where(hard | (points <= _FEW_POINTS), 2, 1)[kept]
        chosen = np.asarray(detections['names'], dtype=str) == name
        found = np.asarray(detections['boxes'], np.float64).reshape(-1, 7)[chosen, None]
        labels = np.asarray(truth['boxes'], np.float64).reshape(-1, 7)[None, kept]
        turn = np.abs((found[..., 6] - labels[..., 6] + np.pi) % (2 * np.pi) - np.pi)
        scores = np.asarray(detections['scores'], np.float64)[chosen]
        return cls(level, scores, box_iou(found, labels), 1 - turn / np.pi)


def _count(frame: _Frame, least: float, cutoffs: np.ndarray) -> np.ndarray:
    """(2, S, 4) hits, false alarms, misses and the sum of fitting headings, by level and cutoff."""
    counts = np.zeros((len(LEVELS), len(cutoffs), 4))
    before = -1
    for step, cutoff in enumerate(cutoffs):
        present = np.flatnonzero(frame.scores >= cutoff)
        if len(present) != before:  # else the very same detections compete as at the last cutoff
            before = len(present)
            found, label = _match(frame.overlaps[present], least)
            heading = frame.headings[present[found], label].sum()
            missed = np.delete(frame.level, label)
        for row, level in enumerate(LEVELS):
            counts[row, step] = len(found), len(present) - len(found), (missed <= level).sum(), heading
    return counts


def _match(overlaps: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (k,) of (m, n) overlaps paired for the greatest sum, each at least ``least``."""
    allowed = np.where(overlaps >= least, overlaps, 0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    kept = allowed[rows, columns] > 0
    return rows[kept], columns[kept]


def _scores(
    hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray, headings: np.ndarray
) -> tuple[float, float]:
    """AP and APH of counts (S,) by cutoff."""
    if not (hits + misses).any():
        return float('nan'), float('nan')
    found, wanted = (hits + alarms).clip(1), (hits + misses).clip(1)
    recall = hits / wanted
    return tuple(
        average_precision(np.where(recall > 0, right / found, 1), recall) for right in (hits, headings)
    )


def average_precision(precision: np.ndarray, recall: np.ndarray) -> float:
    """Area below a curve of precision over recall.

    Precision at a recall is the best at that recall or above. Neighbours within a step of recall of 0.05 are joined by
    a straight line; over a wider gap, precision falls within the first 0.05 and stays.

    Args:
        precision: (S,).
        recall: (S,), in any order.

    Example:
        >>> average_precision(np.array([1.0, 1.0]), np.array([0.5, 1.0]))
        1.0
    """
    order = np.lexsort((-precision, recall))
    recall, precision = recall[order], np.maximum.accumulate(precision[order][::-1])[::-1]
    gap, fall = np.diff(recall), -np.diff(precision)
    area = precision[1:] * gap + fall * np.minimum(gap, _RECALL_STEP) / 2
    return float(precision[0] * recall[0] + area.sum())

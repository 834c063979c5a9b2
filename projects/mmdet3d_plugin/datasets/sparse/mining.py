"""From what a detector sees in two views of every frame to an instance bank."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import points_in_boxes
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import FATES, REASONS, VERSION, InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.mining_settings import LABELS, MiningSettings, two_means
from projects.mmdet3d_plugin.evaluation.rotated_iou import box_iou, rectangle_iou

_FOUND = 0.5  # overlap from which a prediction is that of a labelled object
_LEAST_SIGMA = 0.05  # of the logarithm of a size: labels of a class may happen to be alike
_LEAST_SIZES = 5  # labels that it takes to judge sizes by
_ACCEPTED, _UNSURE, _TAKEN = range(len(FATES))


class Detections(NamedTuple):
    """Predictions of one frame: boxes (n, 7) float64, LiDAR frame, bottom centres; scores (n,); labels (n,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def better_than(self, least: float) -> 'Detections':
        """Those with at least this score."""
        chosen = self.scores >= least
        return Detections(self.boxes[chosen], self.scores[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Finding:
    """What there is to decide on in a frame.

    Attributes:
        frame: its name.
        first: predictions of the frame as it is.
        second: predictions of its second view, taken back into the frame.
        boxes: (k, 7) boxes that keep their labels.
        labels: (k,) their classes, -1 for one that the detector does not know.
        points: loads the frame's points (N, 3) float32.
    """

    frame: str
    first: Detections
    second: Detections
    boxes: np.ndarray
    labels: np.ndarray
    points: Callable[[], np.ndarray]


class Thresholds(NamedTuple):
    """By class: the least score and consistency, the labelled objects that were found, and the centres of their scores."""

    score: np.ndarray
    consistency: np.ndarray
    found: np.ndarray
    centres: np.ndarray

    def as_plain(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """For a header, by the name of the class."""
        return {
            name: dict(
                score=float(self.score[i]),
                consistency=float(self.consistency[i]),
                labels_found=int(self.found[i]),
                centres=self.centres[i].tolist(),
            )
            for i, name in enumerate(classes)
        }


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union in space of boxes (n, 7) and (m, 7) with bottom centres."""
    raised = [boxes + boxes[:, 5:6] / 2 * (np.arange(7) == 2) for boxes in (first, second)]
    return box_iou(raised[0][:, None], raised[1][None])


def footprint_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union from above."""
    plane = [0, 1, 3, 4, 6]
    return rectangle_iou(first[:, None, plane], second[None][..., plane])


def match(
    boxes: np.ndarray, labels: np.ndarray, others: np.ndarray, other_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pair boxes one to one within their classes, so that the sum of their overlaps in space is largest.

    Args:
        boxes: (n, 7), bottom centres.
        labels: (n,).
        others: (m, 7).
        other_labels: (m,).

    Returns:
        (n,) index of the partner, -1 without one, and (n,) overlap with it, 0 without one.
    """
    partner, overlap = np.full(len(boxes), -1), np.zeros(len(boxes))
    for label in np.intersect1d(labels, other_labels):
        own, theirs = np.flatnonzero(labels == label), np.flatnonzero(other_labels == label)
        table = overlaps(boxes[own], others[theirs])
        rows, columns = linear_sum_assignment(-table)
        real = table[rows, columns] > 0
        partner[own[rows[real]]] = theirs[columns[real]]
        overlap[own[rows[real]]] = table[rows[real], columns[real]]
    return partner, overlap


def mine(
    findings: Sequence[Finding],
    classes: Sequence[str],
    settings: MiningSettings,
    header: Mapping[str, Any] | None = None,
    parent: InstanceBank | None = None,
) -> InstanceBank:
    """Decide on every prediction.

    Args:
        findings: of all frames.
        classes: names by label.
        settings: what is asked for.
        header: what the bank should say of where it comes from; ``iteration`` counts from 1.
        parent: the bank before; it counts only where ``settings.keep`` is 'monotone'.

    Returns:
        The bank; the same for the same arguments, in whatever order frames come.
    """
    settings.require_classes(classes)
    header = dict(header or {}, version=VERSION, classes=list(classes), settings=settings.as_plain())
    header.setdefault('iteration', 1)
    findings = sorted(findings, key=lambda finding: finding.frame)
    if len({finding.frame for finding in findings}) < len(findings):
        raise UserError('mining: a frame is there twice')
    pairs = [match(f.first.boxes, f.first.labels, f.second.boxes, f.second.labels) for f in findings]
    thresholds = find_thresholds(findings, pairs, classes, settings)
    miner = _Miner(findings, len(classes), settings, thresholds, header['iteration'])
    rows = []
    for finding, pair in zip(findings, pairs, strict=True):
        inherited = _inherited(parent, finding.frame) if settings.keep == 'monotone' else None
        rows.append(miner.decide(finding, *pair, inherited))
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else _no_rows()
    header |= dict(
        frames=len(findings),
        thresholds=thresholds.as_plain(classes),
        counts=_counts(classes, columns['label'], columns['fate']),
    )
    return InstanceBank(header, **columns)


def _counts(classes: Sequence[str], labels: np.ndarray, fates: np.ndarray) -> dict[str, dict[str, int]]:
    """Predictions by class and fate."""
    return {
        name: {fate: int(((labels == i) & (fates == f)).sum()) for f, fate in enumerate(FATES)}
        for i, name in enumerate(classes)
    }


def find_thresholds(
    findings: Sequence[Finding],
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    settings: MiningSettings,
) -> Thresholds:
    """Thresholds of every class, from what is predicted for the objects that have labels.

    Args:
        findings: of all frames.
        pairs: partner and overlap of every prediction of the first views.
        classes: names by label.
        settings: numbers, or 'labels'.
    """
    scores: list[list[float]] = [[] for _ in classes]
    consistencies: list[list[float]] = [[] for _ in classes]
    for finding, (_, consistency) in zip(findings, pairs, strict=True):
        own, overlap = match(finding.boxes, finding.labels, finding.first.boxes, finding.first.labels)
        for label, at in zip(finding.labels[overlap >= _FOUND], own[overlap >= _FOUND], strict=True):
            scores[label].append(finding.first.scores[at])
            consistencies[label].append(consistency[at])
    found = np.array([len(values) for values in scores])
    least = settings.least_labels
    centres = _centres(scores, least)
    few = found.sum() < least
    return Thresholds(
        _thresholds(settings.score, centres, few, settings.usual_score, classes, settings.between),
        _thresholds(
            settings.consistency,
            _centres(consistencies, least),
            few,
            settings.usual_consistency,
            classes,
            settings.between,
        ),
        found,
        centres,
    )


def _centres(values: Sequence[list[float]], least: int) -> np.ndarray:
    """(C, 2) centres by 2-means, class by class.

    A class with few values takes those of all classes: a detector is about as shy of one class as of another, and a number
    that is good for another detector may be out of reach for this one.
    """
    pooled = list(itertools.chain(*values))
    chosen = [own if len(own) >= least else pooled for own in values]
    return np.array([two_means(np.array(own)) if own else (0.0, 0.0) for own in chosen]).reshape(-1, 2)


def _thresholds(
    asked: float | str | Mapping[str, float],
    centres: np.ndarray,
    few: bool,
    usual: float,
    classes: Sequence[str],
    between: float,
) -> np.ndarray:
    """(C,) thresholds of one kind."""
    if isinstance(asked, Mapping):
        return np.array([float(asked[name]) for name in classes])
    if asked != LABELS:
        return np.full(len(classes), float(asked))
    return np.full(len(classes), usual) if few else centres @ (1 - between, between)


class _Miner:
    """Decides frame by frame, by what all frames together have shown."""

    def __init__(
        self,
        findings: Sequence[Finding],
        classes: int,
        settings: MiningSettings,
        thresholds: Thresholds,
        iteration: int,
    ) -> None:
        self.settings, self.thresholds, self.iteration = settings, thresholds, iteration
        self.sizes = [
            np.log(np.concatenate([f.boxes[f.labels == label, 3:6] for f in findings] or [np.zeros((0, 3))]))
            for label in range(classes)
        ]

    def decide(
        self, finding: Finding, partner: np.ndarray, consistency: np.ndarray, inherited: InstanceBank | None
    ) -> dict[str, np.ndarray]:
        """Columns of the bank for one frame: its predictions in order, then what was inherited."""
        first = finding.first
        old = _accepted_of(inherited)
        fixed = np.concatenate([finding.boxes, old['box']])
        reason = self._first_doubts(finding, partner, consistency)
        touching = (footprint_overlaps(first.boxes, fixed) > 0).any(1)
        reason[touching] = REASONS.index('label')
        fate = np.full(len(first.boxes), _UNSURE)
        fate[touching] = _TAKEN
        boxes, counts = first.boxes.copy(), np.full(len(first.boxes), -1)
        candidates = np.flatnonzero(reason == 0)
        boxes[candidates] = self.fuse(finding, candidates, partner[candidates])
        counts[candidates] = self._count(finding, boxes[candidates])
        reason[candidates[counts[candidates] < self.settings.least_points]] = REASONS.index('points')
        self._suppress(np.flatnonzero(reason == 0), boxes, first.scores, fixed, fate, reason)
        accepted = fate == _ACCEPTED
        boxes = np.where(accepted[:, None], boxes, first.boxes)
        beside = (fate == _UNSURE) & (footprint_overlaps(boxes, boxes[accepted]) > 0).any(1)
        fate[beside] = _TAKEN
        reason[beside] = REASONS.index('better one')
        kept = first.scores >= self.settings.least_score
        own = dict(
            frame=np.full(len(boxes), finding.frame),
            box=boxes.astype(np.float32),
            label=first.labels,
            score=first.scores.astype(np.float32),
            consistency=consistency.astype(np.float32),
            row=np.arange(len(boxes)),
            partner=partner,
            born=np.where(accepted, self.iteration, 0),
            points=counts,
            fate=fate.astype(np.uint8),
            reason=reason.astype(np.uint8),
        )
        return {name: np.concatenate([own[name][kept], old[name]]) for name in own}

    def _first_doubts(self, finding: Finding, partner: np.ndarray, consistency: np.ndarray) -> np.ndarray:
        """(n,) index of the first reason against each prediction, 0 for none so far."""
        first, second, settings = finding.first, finding.second, self.settings
        scores = first.scores
        if settings.both_scores and len(second.scores):
            scores = np.where(partner >= 0, np.minimum(scores, second.scores[partner]), scores)
        doubts = (
            ('score', scores < self.thresholds.score[first.labels]),
            ('partner', partner < 0),
            ('consistency', consistency < self.thresholds.consistency[first.labels]),
            ('size', ~self._usual_sizes(first)),
        )
        reason = np.zeros(len(scores), np.int64)
        for name, against in reversed(doubts):
            reason[against] = REASONS.index(name)
        return reason

    def _usual_sizes(self, found: Detections) -> np.ndarray:
        """(n,) bool, boxes of a size that labels of their class have."""
        usual = np.ones(len(found.boxes), dtype=bool)
        for label, sizes in enumerate(self.sizes):
            own = found.labels == label
            if len(sizes) < _LEAST_SIZES or not own.any():
                continue
            sigma = np.maximum(sizes.std(0), _LEAST_SIGMA)
            off = np.abs(np.log(found.boxes[own, 3:6]) - sizes.mean(0)) / sigma
            usual[own] = (off <= self.settings.sigmas).all(1)
        return usual

    def fuse(self, finding: Finding, chosen: np.ndarray, partners: np.ndarray) -> np.ndarray:
        """(k, 7) means of chosen predictions and their partners; headings modulo half a turn, sense of the first view."""
        one, other = finding.first.boxes[chosen], finding.second.boxes[partners]
        weight = np.full(len(chosen), self.settings.weight, dtype=np.float64)
        if self.settings.weight is None:
            scores, others = finding.first.scores[chosen], finding.second.scores[partners]
            weight = scores / (scores + others)
        mean = weight[:, None] * one + (1 - weight[:, None]) * other
        turn = (other[:, 6] - one[:, 6] + np.pi / 2) % np.pi - np.pi / 2
        mean[:, 6] = one[:, 6] + (1 - weight) * turn
        return mean

    @staticmethod
    def _count(finding: Finding, boxes: np.ndarray) -> np.ndarray:
        """(k,) points in boxes."""
        if not len(boxes):
            return np.zeros(0, np.int64)
        return points_in_boxes(finding.points(), boxes.astype(np.float32)).sum(0)

    def _suppress(
        self,
        candidates: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        fixed: np.ndarray,
        fate: np.ndarray,
        reason: np.ndarray,
    ) -> None:
        """Accept the best candidates that overlap no better one, and no label once their boxes have moved."""
        accepted: list[int] = []
        for at in candidates[np.argsort(-scores[candidates], kind='stable')]:
            if (footprint_overlaps(boxes[[at]], fixed) > 0).any():
                fate[at], reason[at] = _TAKEN, REASONS.index('label')
            elif (footprint_overlaps(boxes[[at]], boxes[accepted]) > self.settings.overlap).any():
                fate[at], reason[at] = _TAKEN, REASONS.index('better one')
            else:
                fate[at] = _ACCEPTED
                accepted.append(int(at))


def _inherited(parent: InstanceBank | None, frame: str) -> InstanceBank | None:
    """What the bank before has accepted in a frame."""
    if parent is None:
        return None
    rows = parent.in_frame(frame)
    return parent.select(rows[parent.accepted[rows]])


def _accepted_of(bank: InstanceBank | None) -> dict[str, np.ndarray]:
    """Columns of what is taken over from the bank before."""
    if bank is None:
        return _no_rows()
    return {**bank.columns(), 'reason': np.full(len(bank), REASONS.index('inherited'), np.uint8)}


def _no_rows() -> dict[str, np.ndarray]:
    """Columns of an empty bank."""
    whole, small = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    number = np.zeros(0, np.float32)
    return dict(
        frame=np.zeros(0, 'U1'), box=np.zeros((0, 7), np.float32), label=whole, score=number, consistency=number.copy(),
        row=whole.copy(), partner=whole.copy(), born=whole.copy(), points=whole.copy(), fate=small, reason=small.copy(),
    )  # fmt: skip

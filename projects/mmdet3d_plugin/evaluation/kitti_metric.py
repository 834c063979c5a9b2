"""KITTI's average precision on CPU: 2D boxes, orientation, bird's-eye view and 3D, over 40 or 11 points of recall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.evaluation.rotated_iou import (
    image_box_intersection,
    image_box_iou,
    rectangle_intersection,
)

Annotations = dict[str, np.ndarray]

CLASSES = ('Car', 'Pedestrian', 'Cyclist')
METRICS = ('bbox', 'aos', 'bev', '3d')
DIFFICULTIES = ('easy', 'moderate', 'hard')
RECALLS = {'R40': np.arange(1, 41), 'R11': np.arange(0, 41, 4)}
MIN_HEIGHT = (40, 25, 25)  # pixels, by difficulty
MAX_OCCLUSION = (0, 1, 2)
MAX_TRUNCATION = (0.15, 0.3, 0.5)
# neither right nor wrong to find: too like the class to call it a mistake
NEIGHBOURS = {'Car': 'Van', 'Pedestrian': 'Person_sitting'}
# the overlap that a detection must exceed; 'loose' is mmdet3d's, which the benchmark itself does not know
OVERLAPS = {'Car': 0.7, 'Pedestrian': 0.5, 'Cyclist': 0.5}
_LOOSE = {'Car': 0.5, 'Pedestrian': 0.25, 'Cyclist': 0.25}
_RECALL_POINTS = 41
_OTHER, _COUNTED, _IGNORED = -1, 0, 1  # flags of a box for one class and difficulty


def evaluate_kitti(
    truth: Sequence[Annotations],
    detections: Sequence[Annotations],
    classes: Sequence[str] = CLASSES,
    overlaps: Mapping[str, float] | None = None,
    images: bool = True,
) -> dict[str, float]:
    """Average precision of detections by KITTI's protocol.

    By its rule for choosing thresholds, perfect predictions of n < 40 objects score about n / 40, not 1.

    Args:
        truth: labels of every frame: ``name`` (n,), ``truncated`` (n,), ``occluded`` (n,), ``alpha`` (n,) radians,
            ``bbox`` (n, 4) x0, y0, x1, y1 in pixels, ``dimensions`` (n, 3) length, height, width in metres,
            ``location`` (n, 3) bottom centre in the camera's frame (x right, y down, z ahead) and ``rotation_y`` (n,).
        detections: of the same frames in the same order, with ``score`` (n,); ``truncated`` and ``occluded`` do not
            count.
        classes: which to evaluate.
        overlaps: what a detection of a class must exceed; the benchmark's OVERLAPS for those that this leaves out.
        images: whether image boxes mean something. Without them there is no 'bbox' and no 'aos', and difficulty
            goes by occlusion and truncation alone.

    Returns:
        Fractions: ``AP_<metric>_<R40 or R11>_<difficulty>/<class>`` for the metrics 'bbox', 'aos', 'bev' and '3d',
        the same with ``_loose`` behind the difficulty for the lower overlaps of CLASSES, and ``mAP_...`` without a
        class, the mean over classes. NaN where no object is to be found, and for 'aos' when a detection's ``alpha`` is -10
        (unknown); the mean leaves such classes out.

    Raises:
        UserError: a class has no overlap, there are no frames, or predictions do not fit them or are not finite.
    """
    frames = _Frames.of(truth, detections, images)
    out = {}
    for kind in ('bbox', 'bev', '3d') if images else ('bev', '3d'):
        shared = frames.overlaps(kind)
        for name in classes:
            for level, difficulty in enumerate(DIFFICULTIES):
                for suffix, least in _overlaps_wanted(kind, name, overlaps or {}).items():
                    curves = frames.curves(kind, shared, name, level, least)
                    for metric, curve in curves.items():
                        for recall, points in RECALLS.items():
                            key = f'AP_{metric}_{recall}_{difficulty}{suffix}/{name}'
                            out[key] = float(curve[points].mean())
    return out | _means(out)


def _overlaps_wanted(kind: str, name: str, given: Mapping[str, float]) -> dict[str, float]:
    """Overlap to exceed, by the suffix of the key; image boxes of mmdet3d's loose variant stay strict."""
    strict = given.get(name, OVERLAPS.get(name))
    if strict is None:
        raise UserError(
            f'KITTI has no protocol for class {name!r}; its classes are {", ".join(CLASSES)}; say which overlap '
            'counts, as in overlaps=dict(Truck=0.7)'
        )
    if strict != OVERLAPS.get(name):
        return {'': strict}
    return {'': strict, '_loose': strict if kind == 'bbox' else _LOOSE[name]}


def _means(values: dict[str, float]) -> dict[str, float]:
    """Mean over the classes of each key before the slash, without those that are NaN."""
    groups: dict[str, list[float]] = {}
    for key, value in values.items():
        groups.setdefault('m' + key.split('/')[0], []).append(value)
    known = {key: [value for value in group if not np.isnan(value)] for key, group in groups.items()}
    return {key: float(np.mean(group)) if group else float('nan') for key, group in known.items()}


@dataclass(frozen=True)
class _Frames:
    """Labels and detections of all frames as flat arrays; ``*_start`` (F + 1,) says where each frame begins.

    Attributes:
        truth: labels, DontCare left out.
        found: detections.
        stuff: image boxes (k, 4) of DontCare regions.
        pairs: (2, P) a detection and a label of the same frame; frame after frame, detections before labels.
        images: whether image boxes mean something.
    """

    truth: Annotations
    truth_start: np.ndarray
    found: Annotations
    found_start: np.ndarray
    stuff: np.ndarray
    stuff_start: np.ndarray
    pairs: np.ndarray
    images: bool

    @classmethod
    def of(cls, truth: Sequence[Annotations], detections: Sequence[Annotations], images: bool) -> '_Frames':
        """Join the annotations of single frames."""
        if len(truth) != len(detections):
            raise UserError(
                f'{len(detections)} predictions for {len(truth)} frames: evaluation needs one per frame'
            )
        if not len(truth):
            raise UserError('nothing to evaluate: there are no frames (is the split empty?)')
        stuff = [frame['bbox'][_lower(frame['name']) == 'dontcare'] for frame in truth]
        labels = [_select(frame, _lower(frame['name']) != 'dontcare') for frame in truth]
        starts = [_starts(map(len, boxes)) for boxes in (_names(labels), _names(detections), stuff)]
        found = _join(detections, ('score',))
        if not np.isfinite(found['score']).all():
            raise UserError('scores of predictions are not finite: the network has diverged')
        pairs = _pairs(starts[1], starts[0])
        return cls(
            _join(labels, ('truncated', 'occluded')),
            starts[0],
            found,
            starts[1],
            np.concatenate(stuff),
            starts[2],
            pairs,
            images,
        )

    def overlaps(self, kind: str) -> np.ndarray:
        """(P,) intersection over union of each pair: 'bbox' in the image, 'bev' on the ground, '3d' in space."""
        found, truth = self.pairs
        if kind == 'bbox':
            return image_box_iou(self.found['bbox'][found], self.truth['bbox'][truth])
        one, two = _boxes(self.found)[found], _boxes(self.truth)[truth]
        shared = rectangle_intersection(one[:, :5], two[:, :5])
        sizes = [3, 2] if kind == 'bev' else [3, 2, 6]
        if kind == '3d':
            bottom, top = (
                np.minimum(one[:, 5], two[:, 5]),
                np.maximum(*(b[:, 5] - b[:, 6] for b in (one, two))),
            )
            shared = shared * (bottom - top).clip(0)  # y points down
        union = one[:, sizes].prod(1) + two[:, sizes].prod(1) - shared
        return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

    def curves(
        self, kind: str, overlaps: np.ndarray, name: str, level: int, least: float
    ) -> dict[str, np.ndarray]:
        """Precision (41,) at each point of recall, of ``kind``, and for 'bbox' also the orientation score 'aos'."""
        flags = self._flags(name, level)
        wanted = int((flags[0] == _COUNTED).sum())
        curve, aos = np.full((2, _RECALL_POINTS), np.nan)
        if wanted:
            boxes = (self.truth_start, self.found_start, *flags, self.found['score'], overlaps, least)
            thresholds = _thresholds(_hit_scores(*boxes), wanted)
            turn = (self.truth['alpha'], self.found['alpha'])
            counts = _count(*boxes, thresholds, *turn, self._on_stuff(least) & (kind == 'bbox'))
            curve, aos = _precision(counts)
        if kind != 'bbox':
            return {kind: curve}
        return {kind: curve, 'aos': np.full_like(aos, np.nan) if (self.found['alpha'] == -10).any() else aos}

    def _flags(self, name: str, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Flags of labels (n,) and detections (m,), int8, for a class and a difficulty."""
        height = self.truth['bbox'][:, 3] - self.truth['bbox'][:, 1]
        beyond = (self.truth['occluded'] > MAX_OCCLUSION[level]) | (
            self.truth['truncated'] > MAX_TRUNCATION[level]
        )
        if self.images:
            beyond |= height <= MIN_HEIGHT[level]
        names = _lower(self.truth['name'])
        truth = np.where(names == name.lower(), np.where(beyond, _IGNORED, _COUNTED), _OTHER)
        truth[names == NEIGHBOURS.get(name, '').lower()] = _IGNORED
        height = np.abs(self.found['bbox'][:, 3] - self.found['bbox'][:, 1])
        found = np.where(_lower(self.found['name']) == name.lower(), _COUNTED, _OTHER)
        # As in KITTI's own code, this holds for detections of other classes too: they may take a label's place.
        if self.images:
            found[height < MIN_HEIGHT[level]] = _IGNORED
        return truth.astype(np.int8), found.astype(np.int8)

    def _on_stuff(self, least: float) -> np.ndarray:
        """(m,) bool, detections of whose image box a share above ``least`` lies in one DontCare region."""
        found, stuff = _pairs(self.found_start, self.stuff_start)
        boxes = self.found['bbox'][found]
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        covered = image_box_intersection(boxes, self.stuff[stuff]) > least * area
        return np.bincount(found[covered], minlength=len(self.found['score'])) > 0


def _lower(names: np.ndarray) -> np.ndarray:
    """Names in lower case, as the benchmark compares them."""
    return np.char.lower(np.asarray(names, dtype=str))


def _names(frames: Sequence[Annotations]) -> list[np.ndarray]:
    return [frame['name'] for frame in frames]


def _select(frame: Annotations, mask: np.ndarray) -> Annotations:
    """Those rows of a frame's annotations that the mask (n,) has."""
    return {key: np.asarray(value)[mask] for key, value in frame.items() if len(value) == len(mask)}


def _join(frames: Sequence[Annotations], extra: tuple[str, ...]) -> Annotations:
    """Annotations of all frames behind each other, as float64; names as text."""
    widths = {'bbox': (4,), 'dimensions': (3,), 'location': (3,), 'alpha': (), 'rotation_y': ()}
    joined = {'name': np.concatenate([np.asarray(frame['name'], dtype=str) for frame in frames])}
    for key, width in {**widths, **dict.fromkeys(extra, ())}.items():
        joined[key] = np.concatenate([np.asarray(f[key], np.float64).reshape(-1, *width) for f in frames])
    return joined


def _starts(lengths: Sequence[int]) -> np.ndarray:
    """(F + 1,) where each frame begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def _pairs(first_start: np.ndarray, second_start: np.ndarray) -> np.ndarray:
    """(2, P) all pairs of an item of the first kind and one of the second in the same frame."""
    rows, columns = np.diff(first_start), np.diff(second_start)
    frame = np.repeat(np.arange(len(rows)), rows * columns)
    place = np.arange(len(frame)) - _starts(rows * columns)[frame]
    return np.stack(
        [first_start[frame] + place // columns[frame], second_start[frame] + place % columns[frame]]
    )


def _boxes(annotations: Annotations) -> np.ndarray:
    """(n, 7) x, z, length, width, yaw in the ground plane, then y of the bottom and the height."""
    (x, y, z), (length, height, width) = annotations['location'].T, annotations['dimensions'].T
    return np.stack([x, z, length, width, -annotations['rotation_y'], y, height], 1)


def _thresholds(scores: np.ndarray, wanted: int) -> np.ndarray:
    """Scores at which recall comes nearest to each of the 41 points from 0 to 1; falling, and fewer when recall ends."""
    scores = np.sort(scores)[::-1].tolist()
    chosen, recall = [], 0.0
    for i, score in enumerate(scores):
        last = i == len(scores) - 1
        here, following = (i + 1) / wanted, (i + 2) / wanted
        if not last and following - recall < recall - here:
            continue
        chosen.append(score)
        recall += 1 / (_RECALL_POINTS - 1)
    return np.array(chosen[:_RECALL_POINTS])


def _precision(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hits, false alarms and similarity (T, 3) at falling thresholds -> precision (41,) and orientation score (41,)."""
    found = (counts[:, 0] + counts[:, 1]).clip(1)
    curves = np.zeros((2, _RECALL_POINTS))
    curves[:, : len(counts)] = counts[:, 0] / found, counts[:, 2] / found
    # The precision at a recall is the best at that recall or above.
    return tuple(np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1])


@njit(cache=True)
def _match(
    overlaps: np.ndarray,
    truth_flags: np.ndarray,
    found_flags: np.ndarray,
    scores: np.ndarray,
    least: float,
    threshold: float,
    by_score: bool,
    taken: np.ndarray,
) -> np.ndarray:
    """Give each label of a frame, in order, at most one detection.

    Args:
        overlaps: (m, n) of detections and labels.
        truth_flags: (n,).
        found_flags: (m,).
        scores: (m,).
        least: overlap to exceed.
        threshold: detections below this score are not there.
        by_score: take the highest score, else the highest overlap, and an ignored detection only for want of others.
        taken: (m,) bool, set to the detections that some label took.

    Returns:
        (n,) index of the detection, -1 for none.
    """
    taken[:] = False
    chosen = np.full(len(truth_flags), -1)
    for label in range(len(truth_flags)):
        if truth_flags[label] == _OTHER:
            continue
        best, best_value = -1, 0.0
        for i in range(len(found_flags)):
            if found_flags[i] == _OTHER or taken[i] or scores[i] < threshold or overlaps[i, label] <= least:
                continue
            if by_score:
                better = best < 0 or scores[i] > best_value
                value = scores[i]
            elif found_flags[i] == _COUNTED:
                better = best < 0 or overlaps[i, label] > best_value
                value = overlaps[i, label]
            else:
                better = best < 0
                value = 0.0  # any that counts is better
            if better:
                best, best_value = i, value
        chosen[label] = best
        if best >= 0:
            taken[best] = True
    return chosen


@njit(cache=True)
def _hit_scores(
    truth_start: np.ndarray,
    found_start: np.ndarray,
    truth_flags: np.ndarray,
    found_flags: np.ndarray,
    scores: np.ndarray,
    overlaps: np.ndarray,
    least: float,
) -> np.ndarray:
    """Scores (h,) of the detections that hit a label when none is left out; arguments as in :func:`_count`."""
    hits = np.empty(len(truth_flags))
    total, pair = 0, 0
    for frame in range(len(truth_start) - 1):
        t0, t1, f0, f1 = (
            truth_start[frame],
            truth_start[frame + 1],
            found_start[frame],
            found_start[frame + 1],
        )
        size = (t1 - t0) * (f1 - f0)
        table = overlaps[pair : pair + size].reshape(f1 - f0, t1 - t0)
        pair += size
        taken = np.zeros(f1 - f0, dtype=np.bool_)
        flags = found_flags[f0:f1]
        chosen = _match(table, truth_flags[t0:t1], flags, scores[f0:f1], least, -np.inf, True, taken)
        for label in range(t1 - t0):
            i = chosen[label]
            if i >= 0 and truth_flags[t0 + label] == _COUNTED and flags[i] == _COUNTED:
                hits[total] = scores[f0 + i]
                total += 1
    return hits[:total]


@njit(cache=True)
def _count(
    truth_start: np.ndarray,
    found_start: np.ndarray,
    truth_flags: np.ndarray,
    found_flags: np.ndarray,
    scores: np.ndarray,
    overlaps: np.ndarray,
    least: float,
    thresholds: np.ndarray,
    truth_alpha: np.ndarray,
    found_alpha: np.ndarray,
    on_stuff: np.ndarray,
) -> np.ndarray:
    """Count over all frames.

    Args:
        truth_start: (F + 1,) where the labels of each frame begin.
        found_start: (F + 1,) where its detections begin.
        truth_flags: (n,) of labels.
        found_flags: (m,) of detections.
        scores: (m,).
        overlaps: (P,) of all pairs, frame after frame, detections before labels.
        least: overlap to exceed.
        thresholds: (T,) falling scores.
        truth_alpha: (n,) radians.
        found_alpha: (m,) radians.
        on_stuff: (m,) bool, detections that are no false alarm where they are.

    Returns:
        (T, 3) hits, false alarms, and the sum over hits of (1 + cos(difference of alpha)) / 2.
    """
    counts = np.zeros((len(thresholds), 3))
    pair = 0
    for frame in range(len(truth_start) - 1):
        t0, t1, f0, f1 = (
            truth_start[frame],
            truth_start[frame + 1],
            found_start[frame],
            found_start[frame + 1],
        )
        size = (t1 - t0) * (f1 - f0)
        table = overlaps[pair : pair + size].reshape(f1 - f0, t1 - t0)
        pair += size
        taken = np.zeros(f1 - f0, dtype=np.bool_)
        flags, own = found_flags[f0:f1], scores[f0:f1]
        before = -1
        hits, alarms, alike = 0.0, 0.0, 0.0
        for step in range(len(thresholds)):
            present = (own >= thresholds[step]).sum()
            if present != before:  # else the very same detections compete as at the last threshold
                before = present
                hits, alarms, alike = 0.0, 0.0, 0.0
                chosen = _match(table, truth_flags[t0:t1], flags, own, least, thresholds[step], False, taken)
                for label in range(t1 - t0):
                    i = chosen[label]
                    if i >= 0 and truth_flags[t0 + label] == _COUNTED and flags[i] == _COUNTED:
                        hits += 1
                        alike += (1 + np.cos(truth_alpha[t0 + label] - found_alpha[f0 + i])) / 2
                for i in range(f1 - f0):
                    if flags[i] == _COUNTED and not taken[i] and own[i] >= thresholds[step]:
                        alarms += not on_stuff[f0 + i]
            counts[step, 0] += hits
            counts[step, 1] += alarms
            counts[step, 2] += alike
    return counts

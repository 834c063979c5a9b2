"""KITTI's evaluation once more, slow and as its protocol reads: what the fast one is checked against."""

import math

import numpy as np
from shapely.geometry import Polygon

LEVELS = {'easy': (40, 0, 0.15), 'moderate': (25, 1, 0.3), 'hard': (25, 2, 0.5)}
NEIGHBOURS = {'Car': 'Van', 'Pedestrian': 'Person_sitting', 'Cyclist': None}


def ground_polygon(frame: dict, i: int) -> Polygon:
    x, _, z = frame['location'][i]
    length, _, width = frame['dimensions'][i]
    turn = frame['rotation_y'][i]
    corners = [(sx * length / 2, sz * width / 2) for sx, sz in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    c, s = math.cos(turn), math.sin(turn)
    return Polygon([(x + c * a + s * b, z - s * a + c * b) for a, b in corners])


def overlap(kind: str, one: dict, i: int, two: dict, j: int) -> float:
    if kind == 'bbox':
        a, b = one['bbox'][i], two['bbox'][j]
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return shared / (sum(area) - shared)
    a, b = ground_polygon(one, i), ground_polygon(two, j)
    shared, measure = a.intersection(b).area, [a.area, b.area]
    if kind == '3d':
        spans = [
            (f['location'][k][1] - f['dimensions'][k][1], f['location'][k][1])
            for f, k in ((one, i), (two, j))
        ]
        shared *= max(min(spans[0][1], spans[1][1]) - max(spans[0][0], spans[1][0]), 0)
        measure = [one['dimensions'][i].prod(), two['dimensions'][j].prod()]
    return shared / (sum(measure) - shared)


class Reference:
    """Average precision of one metric, class, difficulty and overlap."""

    def __init__(self, truth: list[dict], found: list[dict], kind: str, name: str, level: str) -> None:
        self.truth, self.found, self.kind, self.name, self.least = truth, found, kind, name, 0.0
        self.height, self.occlusion, self.truncation = LEVELS[level]
        self.tables = [
            [[overlap(kind, f, d, t, g) for d in range(len(f['name']))] for g in range(len(t['name']))]
            for t, f in zip(truth, found, strict=True)
        ]  # fmt: skip

    def label_role(self, frame: dict, i: int) -> str:
        if frame['name'][i] == NEIGHBOURS[self.name]:
            return 'ignored'
        if frame['name'][i] != self.name:
            return 'other'
        box = frame['bbox'][i]
        fine = (
            frame['occluded'][i] <= self.occlusion
            and frame['truncated'][i] <= self.truncation
            and box[3] - box[1] > self.height
        )
        return 'counted' if fine else 'ignored'

    def found_role(self, frame: dict, i: int) -> str:
        if frame['bbox'][i][3] - frame['bbox'][i][1] < self.height:
            return 'ignored'
        return 'counted' if frame['name'][i] == self.name else 'other'

    def match(self, number: int, threshold: float | None) -> tuple[list[tuple[int, int]], list[int], int]:
        """Hits (label, detection), detections that no label took, and missed labels of a frame."""
        truth, found = self.truth[number], self.found[number]
        free = [
            d
            for d in range(len(found['name']))
            if self.found_role(found, d) != 'other' and (threshold is None or found['score'][d] >= threshold)
        ]
        hits, missed = [], 0
        for g in range(len(truth['name'])):
            role = self.label_role(truth, g)
            if role == 'other':
                continue
            near = [d for d in free if self.tables[number][g][d] > self.least]
            if not near:
                missed += role == 'counted'
                continue
            if threshold is None:
                pick = max(near, key=lambda d: found['score'][d])
            else:
                good = [d for d in near if self.found_role(found, d) == 'counted']
                pick = max(good, key=lambda d: self.tables[number][g][d]) if good else near[0]
            free.remove(pick)
            if role == 'counted' and self.found_role(found, pick) == 'counted':
                hits.append((g, pick))
        return hits, [d for d in free if self.found_role(found, d) == 'counted'], missed

    def on_stuff(self, number: int, d: int) -> bool:
        if self.kind != 'bbox':
            return False
        truth, box = self.truth[number], self.found[number]['bbox'][d]
        for g in np.flatnonzero(truth['name'] == 'DontCare'):
            other = truth['bbox'][g]
            shared = max(min(box[2], other[2]) - max(box[0], other[0]), 0)
            shared *= max(min(box[3], other[3]) - max(box[1], other[1]), 0)
            if shared / ((box[2] - box[0]) * (box[3] - box[1])) > self.least:
                return True
        return False

    def thresholds(self) -> list[float]:
        """Among all scores that reach some recall, the one nearest to each of 0, 1/40, ... 1."""
        scores, wanted = [], 0
        for number in range(len(self.truth)):
            hits, _, _ = self.match(number, None)
            scores += [self.found[number]['score'][d] for _, d in hits]
            roles = [self.label_role(self.truth[number], g) for g in range(len(self.truth[number]['name']))]
            wanted += roles.count('counted')
        scores = sorted(scores, reverse=True)
        chosen, target, i = [], 0.0, 0
        while i < len(scores):
            left, right = (i + 1) / wanted, (i + 2) / wanted
            if i + 1 == len(scores) or abs(left - target) <= right - target:
                chosen.append(scores[i])
                target += 1 / 40
            i += 1
        return chosen

    def curves(self) -> tuple[list[float], list[float]]:
        precision, similarity = [0.0] * 41, [0.0] * 41
        for step, threshold in enumerate(self.thresholds()):
            right, wrong, alike = 0, 0, 0.0
            for number in range(len(self.truth)):
                hits, rest, _ = self.match(number, threshold)
                right += len(hits)
                wrong += sum(not self.on_stuff(number, d) for d in rest)
                alpha = self.truth[number]['alpha'], self.found[number]['alpha']
                alike += sum((1 + math.cos(alpha[0][g] - alpha[1][d])) / 2 for g, d in hits)
            if right + wrong:
                precision[step], similarity[step] = right / (right + wrong), alike / (right + wrong)
        best = [max(precision[i:]) for i in range(41)], [max(similarity[i:]) for i in range(41)]
        return best


def average(curve: list[float], recall: str) -> float:
    return sum(curve[1:]) / 40 if recall == 'R40' else sum(curve[::4]) / 11


def random_frames(seed: int, frames: int, most: int = 9) -> tuple[list[dict], list[dict]]:
    """Labels of all kinds, and detections near some of them with errors of all sizes, wrong classes and doubles."""
    rng = np.random.default_rng(seed)
    truth = [_labels(rng, int(rng.integers(0, most))) for _ in range(frames)]
    return truth, [_detections(rng, frame) for frame in truth]


def _labels(rng: np.random.Generator, count: int) -> dict:
    names = rng.choice(
        ['Car', 'Pedestrian', 'Cyclist', 'Van', 'Person_sitting', 'DontCare', 'Truck'],
        count,
        p=[0.34, 0.2, 0.16, 0.08, 0.08, 0.1, 0.04],
    )
    low = np.column_stack([rng.uniform(0, 900, count), rng.uniform(50, 200, count)])
    size = np.column_stack([rng.uniform(20, 200, count), rng.uniform(20, 160, count)])
    return dict(
        name=names,
        truncated=rng.choice([0.0, 0.1, 0.2, 0.4, 0.7], count, p=[0.7, 0.1, 0.1, 0.05, 0.05]),
        occluded=rng.choice([0, 0, 0, 0, 0, 1, 2, 3], count),
        alpha=rng.uniform(-3, 3, count),
        bbox=np.hstack([low, low + size]),
        dimensions=rng.uniform(0.5, 4, (count, 3)),
        location=np.column_stack(
            [rng.uniform(-9, 9, count), rng.uniform(1, 2, count), rng.uniform(5, 20, count)]
        ),
        rotation_y=rng.uniform(-3.2, 3.2, count),
    )


def _detections(rng: np.random.Generator, truth: dict) -> dict:
    picked = np.flatnonzero(rng.random(len(truth['name'])) < 0.8)
    picked = np.concatenate([picked, picked[rng.random(len(picked)) < 0.3]]).astype(int)
    count = len(picked)
    error = rng.choice([0.0, 0.03, 0.1, 0.3], (count, 1), p=[0.3, 0.3, 0.2, 0.2])
    names = np.where(
        rng.random(count) < 0.9, truth['name'][picked], rng.choice(['Car', 'Pedestrian', 'Cyclist'], count)
    )
    names = np.where(np.isin(names, ['Car', 'Pedestrian', 'Cyclist']), names, 'Car')
    box = truth['bbox'][picked]
    size = np.tile(box[:, 2:] - box[:, :2], 2)
    return dict(
        name=names,
        alpha=truth['alpha'][picked] + rng.choice([0, 0.3, 3.1], count),
        bbox=box + size * error * rng.uniform(-0.5, 0.5, (count, 4)),
        dimensions=truth['dimensions'][picked] * (1 + error * rng.uniform(-1, 1, (count, 3))),
        location=truth['location'][picked] + error * rng.uniform(-2, 2, (count, 3)),
        rotation_y=truth['rotation_y'][picked] + error[:, 0] * rng.uniform(-2, 2, count),
        score=rng.choice([rng.uniform(0, 1, count), np.full(count, 0.5)], axis=0) if count else np.zeros(0),
    )

"""Results of a detector -> boxes of nuScenes' detection task -> submission file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_file
from projects.mmdet3d_plugin.evaluation.nuscenes_boxes import ATTRIBUTES, CLASSES, NO_ATTRIBUTE, NuScenesBoxes

Info = dict[str, Any]  # one sample of an info file

# (moving, standing) attribute of each class: what detectors without an attribute head answer
_ATTRIBUTES_OF = {
    'car': ('vehicle.moving', 'vehicle.parked'),
    'truck': ('vehicle.moving', 'vehicle.parked'),
    'construction_vehicle': ('vehicle.moving', 'vehicle.parked'),
    'bus': ('vehicle.moving', 'vehicle.stopped'),
    'trailer': ('vehicle.moving', 'vehicle.parked'),
    'motorcycle': ('cycle.with_rider', 'cycle.without_rider'),
    'bicycle': ('cycle.with_rider', 'cycle.without_rider'),
    'pedestrian': ('pedestrian.moving', 'pedestrian.standing'),
}
_ATTRIBUTE_CODES = np.array(
    [
        [ATTRIBUTES.index(name) for name in _ATTRIBUTES_OF[known]]
        if known in _ATTRIBUTES_OF
        else (NO_ATTRIBUTE, NO_ATTRIBUTE)
        for known in CLASSES
    ]
)
_ATTRIBUTE_NAMES = (*ATTRIBUTES, '')  # -1, none, is the last one
_DECIMALS = 9  # nanometres: what is scored is to the last bit what the file says
_RECORD = (
    '{"translation":[%.9f,%.9f,%.9f],"size":[%.9f,%.9f,%.9f],"rotation":[%.9f,%.9f,%.9f,%.9f],"velocity":[%.9f,%.9f],'
    '"detection_name":"%s","detection_score":%r,"attribute_name":"%s","sample_token":%s}'
)
_MOVING_SPEED = 0.2  # m/s
_MAX_BOXES = 500  # the devkit refuses more per sample


@dataclass(frozen=True)
class NuScenesPredictions:
    """What a detector found in some samples.

    Attributes:
        tokens: of the samples.
        ego: (samples, 2) float64, x and y of the car in the global frame, metres.
        boxes: at most 500 of each sample, the most certain first, with nine decimals; ``sample`` is a place in
            ``tokens``.
        sensor: 'camera' or 'lidar', what they were made from.
    """

    tokens: list[str]
    ego: np.ndarray
    boxes: NuScenesBoxes
    sensor: str = 'camera'

    @classmethod
    def from_results(
        cls,
        results: Sequence[dict[str, Any]],
        infos: Sequence[Info],
        classes: Sequence[str],
        sensor: str = 'camera',
    ) -> 'NuScenesPredictions':
        """Move predictions from the LiDAR frame to the global frame.

        Args:
            results: per sample ``boxes_3d`` LiDARInstance3DBoxes (n, 9) in the LiDAR frame, ``scores_3d`` (n,) and
                ``labels_3d`` (n,), in the order of ``infos``.
            infos: samples of the info file. Of two with the same token the later one counts.
            classes: name of each label.
            sensor: 'camera' or 'lidar', what the predictions were made from.

        Raises:
            UserError: there are fewer or more results than samples, or one does not hold what it must: as many scores,
                labels and boxes, labels of the classes, boxes with a velocity, finite numbers.
        """
        if len(results) != len(infos):
            raise UserError(
                f'{len(results)} predictions for {len(infos)} samples: evaluation needs one per sample'
            )
        rows = {info['token']: row for row, info in enumerate(infos)}
        known = np.array([CLASSES.index(name) for name in classes], dtype=np.int8)
        parts = [
            _global_boxes(results[row], infos[row], known, place) for place, row in enumerate(rows.values())
        ]
        ego = [infos[row]['ego2global_translation'][:2] for row in rows.values()]
        boxes = NuScenesBoxes.join([_no_boxes(), *parts])
        return cls(list(rows), np.array(ego, dtype=np.float64).reshape(-1, 2), boxes, sensor)

    def write(self, path: Path) -> Path:
        """Write a submission file as the devkit and the evaluation server read it."""
        meta = {
            f'use_{name}': name == self.sensor for name in ('camera', 'lidar', 'radar', 'map', 'external')
        }

        def write(file: IO[bytes]) -> None:
            file.write(f'{{"meta":{json.dumps(meta)},"results":{{'.encode())
            for place, (token, boxes) in enumerate(self.by_sample()):
                start = f'{"," if place else ""}{json.dumps(token)}:['
                file.write(f'{start}{",".join(_records(boxes, token))}]'.encode())
            file.write(b'}}\n')

        return write_file(path, write)

    def by_sample(self) -> Iterator[tuple[str, NuScenesBoxes]]:
        """Token and boxes of one sample after the other."""
        ends = np.searchsorted(self.boxes.sample, np.arange(len(self.tokens)), 'right')
        start = 0
        for token, end in zip(self.tokens, ends, strict=True):
            yield token, self.boxes.take(slice(start, end))
            start = end


def _global_boxes(result: dict[str, Any], info: Info, known: np.ndarray, place: int) -> NuScenesBoxes:
    """Predictions of one sample, from the LiDAR frame to the devkit's global frame."""
    boxes, scores, labels = _columns(result, info['token'], len(known))
    best = np.argsort(-scores, kind='stable')[:_MAX_BOXES]
    labels, boxes = known[labels[best]], boxes[best]
    centers = np.asarray(result['boxes_3d'].gravity_center, dtype=np.float64)[best]
    rotation, translation = _lidar2global(info)
    turn = rotation.rotation_matrix
    velocity = (np.pad(boxes[:, 7:9], ((0, 0), (0, 1))) @ turn.T)[:, :2]
    standing = np.hypot(*velocity.T) <= _MOVING_SPEED
    return NuScenesBoxes(
        sample=np.full(len(best), place),
        label=labels,
        translation=np.round(centers @ turn.T + translation, _DECIMALS),
        size=np.round(boxes[:, [4, 3, 5]], _DECIMALS),  # the devkit's order is width, length, height
        rotation=np.round(_turn(rotation, boxes[:, 6]), _DECIMALS),
        velocity=np.round(velocity, _DECIMALS),
        attribute=_ATTRIBUTE_CODES[labels, standing.astype(int)].astype(np.int8),
        score=scores[best],
        points=np.full(len(best), -1),
    )


def _columns(result: dict[str, Any], token: str, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (n, 9 or more), scores (n,) and labels (n,) of one sample, looked over."""
    boxes = np.asarray(result['boxes_3d'].tensor, dtype=np.float64)
    scores = np.asarray(result['scores_3d'], dtype=np.float64)
    labels = np.asarray(result['labels_3d'], dtype=np.int64)
    mistakes = {
        f'{boxes.shape[1]} numbers per box, no velocity among them, which nuScenes scores': boxes.shape[1]
        < 9,
        f'{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels': len(boxes) != len(scores)
        or len(boxes) != len(labels),
        f'labels beyond the {classes} classes of the data': ((labels < 0) | (labels >= classes)).any(),
        'scores that are not finite: the network has diverged': not np.isfinite(scores).all(),
        'boxes that are not finite: the network has diverged': not np.isfinite(boxes).all(),
    }
    for what, mistaken in mistakes.items():
        if mistaken:
            raise UserError(f'predictions for sample {token} have {what}')
    return boxes, scores, labels


def _no_boxes() -> NuScenesBoxes:
    none, whole = np.zeros(0), np.zeros(0, dtype=np.int64)
    code, three = np.zeros(0, dtype=np.int8), np.zeros((0, 3))
    return NuScenesBoxes(whole, code, three, three, np.zeros((0, 4)), np.zeros((0, 2)), code, none, whole)


def _records(boxes: NuScenesBoxes, token: str) -> Iterator[str]:
    """Boxes of one sample as a submission file has them; three times as fast as Python's json."""
    numbers = np.hstack([boxes.translation, boxes.size, boxes.rotation, boxes.velocity])
    columns = (numbers.tolist(), boxes.label.tolist(), boxes.score.tolist(), boxes.attribute.tolist())
    quoted = json.dumps(token)
    for row, label, score, attribute in zip(*columns, strict=True):
        yield _RECORD % (*row, CLASSES[label], score, _ATTRIBUTE_NAMES[attribute], quoted)


def _turn(rotation: Quaternion, yaw: np.ndarray) -> np.ndarray:
    """Quaternions wxyz (n, 4) of a turn by ``yaw`` (n,) about z, followed by ``rotation``."""
    c, s = np.cos(yaw / 2), np.sin(yaw / 2)
    w, x, y, z = rotation.elements
    return np.stack([w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s], axis=1)


def _lidar2global(info: Info) -> tuple[Quaternion, np.ndarray]:
    """Rotation and translation from the LiDAR frame to the global frame."""
    lidar, ego = Quaternion(info['lidar2ego_rotation']), Quaternion(info['ego2global_rotation'])
    translation = ego.rotate(np.array(info['lidar2ego_translation'])) + np.array(
        info['ego2global_translation']
    )
    return ego * lidar, translation

"""What cannot be right in the numbers of nuScenes-like infos: times, poses, calibrations and boxes."""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.common.config_checks.numbers import is_number
from projects.mmdet3d_plugin.common.errors import UserError

Info = dict[str, Any]
LARGEST = 200.0
"""Metres: no object that is annotated is larger."""
LARGEST_ANGLE = 4 * np.pi
"""Radians, of a heading: what is beyond it is in degrees, or no angle."""
FASTEST = 1000.0
"""Metres per second: no object on a road is faster, not even where a track jumps."""
FARTHEST = 1e8
"""Metres, of a pose: twice around the earth, so that any map's origin is nearer."""
_TOLERANCE = 0.01  # of rotations; tables round them to about 1e-6
_MEND = 'mend the tables that it comes from, or leave the scene out, and make the info files again with tools/create_data.py'


def check_infos(infos: Sequence[Info], source: object) -> None:
    """Look at every number that training and evaluation compute with.

    Args:
        infos: sorted by scene and time.
        source: the file or folder they come from, for the message.

    Raises:
        UserError: names the first sample whose numbers cannot be right, and what is wrong with them.
    """
    if not infos:
        return
    checks = _Checks(infos, source)
    checks.times()
    for frame in ('lidar2ego', 'ego2global'):
        checks.quaternions(f'{frame}_rotation')
        checks.numbers(f'{frame}_translation', (3,), FARTHEST)
    checks.numbers('can_bus', (18,))
    checks.cameras()
    checks.boxes()


def is_rotation(matrices: np.ndarray) -> np.ndarray:
    """Which of (..., 3, 3) matrices are rotations, within 1 %; (...) bool."""
    with np.errstate(invalid='ignore'):
        square = matrices @ np.swapaxes(matrices, -1, -2)
        near = (np.abs(square - np.eye(3)) < _TOLERANCE).all((-1, -2))
        return near & (np.linalg.det(np.where(near[..., None, None], matrices, 0.0)) > 0)


def is_unit(quaternions: np.ndarray) -> np.ndarray:
    """Which of (..., 4) quaternions have length 1, within 1 %; (...) bool."""
    return np.abs(np.linalg.norm(quaternions, axis=-1) - 1) < _TOLERANCE


def is_intrinsic(matrices: np.ndarray) -> np.ndarray:
    """Which of (..., 3, 3) matrices can be those of a pinhole camera; (...) bool."""
    focal = (matrices[..., 0, 0] > 0) & (matrices[..., 1, 1] > 0)
    last = (np.abs(matrices[..., 2, :] - (0, 0, 1)) < _TOLERANCE).all(-1)
    return focal & last & np.isfinite(matrices).all((-1, -2))


class _Checks:
    """Checks that stack one number after the other over all infos, which takes a second for all of nuScenes."""

    def __init__(self, infos: Sequence[Info], source: object) -> None:
        self.infos, self.source = infos, source

    def fail(self, info: Info, problem: str) -> None:
        raise UserError(f'{self.source}: sample {info["token"]}: {problem}; {_MEND}')

    def times(self) -> None:
        """Ascending within a scene, and every sample once."""
        times = self._stack(self.infos, 'timestamp', (), lambda info: info['timestamp'])
        self._require(np.isfinite(times), self.infos, lambda i: 'timestamp is not a finite number')
        seen: set[str] = set()
        for before, info in zip((None, *self.infos), self.infos, strict=False):
            if info['token'] in seen:
                self.fail(info, 'this token is there twice')
            seen.add(info['token'])
            same = before is not None and before['scene_token'] == info['scene_token']
            if same and not before['timestamp'] < info['timestamp']:
                self.fail(info, f'timestamp {info["timestamp"]} is not after that of the sample before')

    def quaternions(self, key: str) -> None:
        """Of unit length."""
        values = self._stack(self.infos, key, (4,), lambda info: info[key])
        self._require(
            is_unit(values), self.infos, lambda i: f'{key} {values[i].tolist()} is no unit quaternion'
        )

    def numbers(self, key: str, shape: tuple[int, ...], largest: float = np.inf) -> None:
        """Finite, and not beyond a largest one."""
        values = self._stack(self.infos, key, shape, lambda info: info[key])
        axes = tuple(range(1, values.ndim))
        self._require(
            np.isfinite(values).all(axes),
            self.infos,
            lambda i: f'{key} {values[i].tolist()} is not finite',
        )
        self._require(
            (np.abs(values) <= largest).all(axes),
            self.infos,
            lambda i: f'{key} {values[i].tolist()} is beyond {largest:g}',
        )

    def cameras(self) -> None:
        """Rotations that are rotations, finite places, focal lengths above zero."""
        owners = [info for info in self.infos for _ in info['cams']]
        cams = [(name, cam) for info in self.infos for name, cam in info['cams'].items()]
        if not cams:
            return
        turns, places, lenses = (
            self._stack(owners, key, shape, lambda pair, key=key: pair[1][key], cams)
            for key, shape in (
                ('sensor2lidar_rotation', (3, 3)),
                ('sensor2lidar_translation', (3,)),
                ('cam_intrinsic', (3, 3)),
            )
        )
        for good, key, what in (
            (is_rotation(turns), 'sensor2lidar_rotation', 'no rotation (calibrated_sensor or ego_pose)'),
            ((np.abs(places) <= FARTHEST).all(1), 'sensor2lidar_translation', 'not finite, or far away (calibrated_sensor or ego_pose)'),
            (is_intrinsic(lenses), 'cam_intrinsic', 'no pinhole matrix with focal lengths above zero (calibrated_sensor)'),
        ):  # fmt: skip
            self._require(good, owners, lambda i, key=key, what=what: f'{key} of {cams[i][0]} is {what}')
        for owner, (name, cam) in zip(owners, cams, strict=True):
            for key in ('width', 'height'):  # info files of others have no sizes
                if key in cam and not (is_number(cam[key]) and cam[key] > 0):
                    self.fail(owner, f'{key} {cam[key]!r} of {name} is no number of pixels (sample_data)')

    def boxes(self) -> None:
        """Finite, of a possible size, and with as many names as there are boxes."""
        for info in (info for info in self.infos if 'gt_boxes' in info):
            boxes, velocity, names = info['gt_boxes'], info['gt_velocity'], info['gt_names']
            if not len(boxes) == len(velocity) == len(names):
                self.fail(info, f'{len(boxes)} boxes, {len(velocity)} velocities and {len(names)} names')
            for key in ('valid_flag', 'num_lidar_pts', 'num_radar_pts'):
                if key not in info:
                    continue
                given = np.asarray(info[key])
                if given.shape != (len(boxes),) or given.dtype.kind not in 'biuf':
                    self.fail(info, f'{len(boxes)} boxes, but {key} is {reprlib.repr(info[key])}')
            finite = np.isfinite(boxes).all(1) & ~np.isinf(velocity).any(1)  # NaN: velocity is unknown
            possible = ((boxes[:, 3:6] > 0) & (boxes[:, 3:6] <= LARGEST)).all(1)
            for good, what in (
                (finite, 'is not finite'),
                (possible, f'has a size that no object has (0 to {LARGEST:g} m)'),
                (np.abs(boxes[:, 6]) <= LARGEST_ANGLE, 'has a heading that is no angle in radians'),
                (~(np.abs(velocity) > FASTEST).any(1), f'is faster than any object ({FASTEST:g} m/s)'),
            ):
                if not good.all():
                    at = int(np.argmin(good))
                    size = ' x '.join(f'{side:g}' for side in boxes[at, 3:6])
                    self.fail(info, f'box {at} ({names[at]}, {size} m) {what}')

    def _stack(
        self,
        owners: Sequence[Info],
        key: str,
        shape: tuple[int, ...],
        get: Callable[[Any], Any],
        items: Sequence[Any] | None = None,
    ) -> np.ndarray:
        """(n, *shape) float64 of one value of every item, by default every owner."""
        rows = []
        for owner, item in zip(owners, items or owners, strict=True):
            try:
                row = np.asarray(get(item), dtype=np.float64)
            except (KeyError, TypeError, ValueError, OverflowError):
                row = None
            if row is None or row.shape != shape:
                self.fail(
                    owner, f'{key} is missing or is not {" x ".join(map(str, shape)) or "one"} number(s)'
                )
            rows.append(row)
        return np.stack(rows)

    def _require(self, good: np.ndarray, owners: Sequence[Info], problem: Callable[[int], str]) -> None:
        """Every value is good, or else the first that is not is told."""
        if not good.all():
            at = int(np.argmin(good))
            self.fail(owners[at], problem(at))

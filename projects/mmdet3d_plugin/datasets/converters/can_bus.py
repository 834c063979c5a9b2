"""The 18 numbers of ego state that BEVFormer feeds to its queries, from the CAN bus or from poses alone."""

from pathlib import Path

import numpy as np
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json
from projects.mmdet3d_plugin.datasets.info_checks import is_unit

# The accelerometer of the recording cars feels gravity, so a car at rest reads this (nuscenes-devkit issue 378).
_GRAVITY = np.array([0.0, 0.0, 9.81])


class CanBus:
    """Pose messages (50 Hz) of the CAN bus expansion, one JSON file per scene.

    Args:
        folder: the ``can_bus`` folder, or the folder that holds it.
        message: which message tells acceleration, rotation rates and velocity at the time of a sample: the last one
            'before' it, or the first one 'after' it, as BEVFormer's converter has it. Positions come from before.
    """

    def __init__(self, folder: Path, message: str = 'before') -> None:
        self.message = message
        inner = folder / 'can_bus'
        self.folder = inner if inner.is_dir() else folder
        if not any(self.folder.glob('scene-*_pose.json')):
            raise FileNotFoundError(
                f'no CAN bus files (scene-XXXX_pose.json) in {folder}; unpack the CAN bus expansion of nuScenes '
                'there, or leave --canbus out and let the poses stand in'
            )

    def states(self, scene_name: str, times: list[int]) -> np.ndarray | None:
        """Ego states at ``times`` (us) -> (n, 18), or None where the scene was recorded without a CAN bus."""
        path = self.folder / f'{scene_name}_pose.json'
        if not path.is_file():
            return None
        messages = read_json(path, 'unpack the CAN bus expansion again')
        if not messages:
            return None
        try:
            clock = np.array([message['utime'] for message in messages], dtype=np.int64)
            poses, motion = (
                np.array([np.concatenate([m[key] for key in keys]) for m in messages], dtype=np.float64)
                for keys in (('pos', 'orientation'), ('accel', 'rotation_rate', 'vel'))
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f'{path} is damaged ({error!r}); unpack the CAN bus expansion again') from error
        if poses.shape[1:] != (7,) or motion.shape[1:] != (9,) or (np.diff(clock) < 0).any():
            raise UserError(
                f'{path} is damaged (times go back, or numbers are missing); unpack the CAN bus expansion again'
            )
        if not (np.isfinite(poses).all() and np.isfinite(motion).all()):
            raise UserError(f'{path} holds numbers that are not finite; unpack the CAN bus expansion again')
        after = np.searchsorted(clock, times, side='right')
        before = np.maximum(after - 1, 0)
        if not is_unit(poses[before, 3:]).all():
            raise UserError(
                f'{path} holds an orientation that is no unit quaternion; unpack the CAN bus expansion again'
            )
        told = before if self.message == 'before' else np.minimum(after, len(clock) - 1)
        return np.hstack([poses[before], motion[told], np.zeros((len(times), 2))])


def states_from_poses(times: list[int], positions: np.ndarray, rotations: list[Quaternion]) -> np.ndarray:
    """Stand in for the CAN bus: motion from differences of successive poses of one scene.

    Args:
        times: n times in microseconds, ascending.
        positions: (n, 3), ego position in the global frame, metres.
        rotations: n ego-to-global rotations.

    Returns:
        (n, 18): position 3, rotation wxyz 4, acceleration 3 (ego frame, gravity included), rotation rate 3 (ego
        frame, rad/s), velocity 3 (ego frame, m/s), two zeros. The first frame takes the motion of the second.
    """
    n = len(times)
    velocity, rate, acceleration = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros((n, 3))
    for i in range(1, n):
        dt = max((times[i] - times[i - 1]) * 1e-6, 1e-6)
        velocity[i] = (positions[i] - positions[i - 1]) / dt
        turn = rotations[i - 1].inverse * rotations[i]
        rate[i] = turn.axis * turn.radians / dt
        if i > 1:
            acceleration[i] = (velocity[i] - velocity[i - 1]) / dt
    if n > 1:
        velocity[0], rate[0] = velocity[1], rate[1]
    to_ego = [rotation.rotation_matrix.T for rotation in rotations]
    acceleration = np.array([matrix @ a for matrix, a in zip(to_ego, acceleration, strict=True)]) + _GRAVITY
    velocity = np.array([matrix @ v for matrix, v in zip(to_ego, velocity, strict=True)])
    quaternions = np.array([rotation.elements for rotation in rotations])
    return np.hstack([positions, quaternions, acceleration, rate, velocity, np.zeros((n, 2))])

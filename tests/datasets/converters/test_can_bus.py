import json
from pathlib import Path

import numpy as np
import pytest
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.converters.can_bus import CanBus, states_from_poses


def test_poses_give_velocity_and_rates_in_the_ego_frame() -> None:
    """A car on a circle: 10 m/s forward, 0.2 rad/s to the left."""
    times = [i * 100_000 for i in range(6)]
    angles = [0.2 * t * 1e-6 for t in times]
    positions = np.array([[50 * np.sin(a), 50 * (1 - np.cos(a)), 0] for a in angles])
    rotations = [Quaternion(axis=(0, 0, 1), radians=a) for a in angles]
    states = states_from_poses(times, positions, rotations)
    assert states.shape == (6, 18)
    assert np.allclose(states[:, :3], positions)
    assert np.allclose(states[:, 3:7], [r.elements for r in rotations])
    assert np.allclose(states[2:, 7:10], [[0, 2, 9.81]] * 4, atol=0.1)  # v * rate to the left, and gravity
    assert np.allclose(states[:, 10:13], [[0, 0, 0.2]] * 6)
    assert np.allclose(states[:, 13:16], [[10, 0, 0]] * 6, atol=0.2)
    assert (states[:, 16:] == 0).all()


def test_a_single_pose_stands_still() -> None:
    state = states_from_poses([5], np.array([[1.0, 2.0, 3.0]]), [Quaternion()])
    assert np.allclose(state, [[1, 2, 3, 1, 0, 0, 0, 0, 0, 9.81, 0, 0, 0, 0, 0, 0, 0, 0]])


def message(time: int) -> dict:
    return dict(
        utime=time,
        pos=[time, 0, 0],
        orientation=[1, 0, 0, 0],
        accel=[1, 2, 3],
        rotation_rate=[4, 5, 6],
        vel=[7, 8, 9],
    )


def test_the_last_message_before_the_frame_counts(tmp_path: Path) -> None:
    (tmp_path / 'can_bus').mkdir()
    (tmp_path / 'can_bus/scene-0001_pose.json').write_text(json.dumps([message(t) for t in (100, 120, 140)]))
    bus = CanBus(tmp_path)
    states = bus.states('scene-0001', [50, 120, 139, 900])
    assert states[:, 0].tolist() == [100, 120, 120, 140]
    assert states[0, 3:].tolist() == [1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0]
    assert bus.states('scene-0161', [50]) is None


def test_an_orientation_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / 'scene-0001_pose.json').write_text(json.dumps([dict(message(1), orientation=[0, 0, 0, 0])]))
    with pytest.raises(UserError, match=r'scene-0001_pose.json holds an orientation that is no unit'):
        CanBus(tmp_path).states('scene-0001', [5])


def test_a_folder_without_messages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no CAN bus files'):
        CanBus(tmp_path)

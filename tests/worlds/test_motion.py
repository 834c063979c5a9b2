import numpy as np
import pytest

from projects.mmdet3d_plugin.common.geometry import planar_pose
from projects.mmdet3d_plugin.worlds.motion import Motion, rotate, stack_motions


def test_straight_line() -> None:
    x, y, yaw = Motion(1.0, 2.0, np.pi / 2, speed=3.0).at(2.0)
    np.testing.assert_allclose([x, y, yaw], [1.0, 8.0, np.pi / 2])


def test_circle_comes_round() -> None:
    motion = Motion(0.0, 0.0, 0.0, speed=2.0, yaw_rate=0.5)
    half, full = motion.at(np.array([2 * np.pi, 4 * np.pi]))
    np.testing.assert_allclose(half[:2], [0.0, 8.0], atol=1e-9)  # a radius of 4 m, to the left
    np.testing.assert_allclose(full[:2], [0.0, 0.0], atol=1e-9)


@pytest.mark.parametrize('yaw_rate', [0.0, 0.3, -0.3])
def test_velocity_is_along_the_heading(yaw_rate: float) -> None:
    motion, time, step = Motion(5.0, -3.0, 0.7, 4.0, yaw_rate), 1.3, 1e-5
    velocity = (motion.at(time + step) - motion.at(time - step))[:2] / (2 * step)
    yaw = motion.at(time)[2]
    np.testing.assert_allclose(velocity, 4.0 * np.array([np.cos(yaw), np.sin(yaw)]), atol=1e-6)


def test_through_reaches_the_state_at_the_asked_time() -> None:
    motion = Motion(5.0, -3.0, 0.7, 4.0, 0.2)
    np.testing.assert_allclose(motion.through(1.7).at(1.7), [5.0, -3.0, 0.7])


def test_stacked_motions_equal_single_ones() -> None:
    motions = [Motion(1.0, 2.0, 0.3, 4.0, 0.1), Motion(-1.0, 0.0, 2.0)]
    np.testing.assert_array_equal(stack_motions(motions).at(0.8), [motion.at(0.8) for motion in motions])


def test_rotate_and_pose_agree_on_the_sense_of_turning() -> None:
    pose = planar_pose(1.0, 2.0, np.pi / 2)
    np.testing.assert_allclose(
        rotate(np.array([1.0, 0, 0]), pose[:3, :3]) + pose[:3, 3], [1, 3, 0], atol=1e-12
    )

import numpy as np
import pytest

from projects.mmdet3d_plugin.worlds.rig import CAMERA_CHANNELS, make_rig

# Directions in degrees, counter-clockwise from ahead.
LOOKS = {
    'CAM_FRONT': 0,
    'CAM_FRONT_LEFT': 55,
    'CAM_BACK_LEFT': 108,
    'CAM_BACK': 180,
    'CAM_BACK_RIGHT': -110,
    'CAM_FRONT_RIGHT': -56,
}


@pytest.mark.parametrize('seed', [None, 0])
def test_cameras_look_where_their_names_say(seed: int | None) -> None:
    rig = make_rig(1600, 900, None if seed is None else np.random.default_rng(seed))
    assert tuple(camera.channel for camera in rig.cameras) == CAMERA_CHANNELS
    for camera in rig.cameras:
        ahead, down = camera.cam2ego[:3, 2], camera.cam2ego[:3, 1]
        angle = np.rad2deg(np.arctan2(ahead[1], ahead[0])) - LOOKS[camera.channel]
        assert abs((angle + 180) % 360 - 180) < 2
        assert down[2] < -0.99
        np.testing.assert_allclose(camera.cam2ego[:3, :3] @ camera.cam2ego[:3, :3].T, np.eye(3), atol=1e-12)


def test_lidar_frame_is_that_of_nuscenes() -> None:
    lidar2ego = make_rig(1600, 900).lidar2ego
    np.testing.assert_allclose(lidar2ego[:3, 1], [1, 0, 0], atol=1e-12)  # y is ahead
    np.testing.assert_allclose(lidar2ego[:3, 0], [0, -1, 0], atol=1e-12)  # x is right
    assert 1.8 < lidar2ego[2, 3] < 1.9


def test_intrinsics_follow_the_image_size() -> None:
    full, small = make_rig(1600, 900), make_rig(400, 300)
    for large, little in zip(full.cameras, small.cameras, strict=True):
        np.testing.assert_allclose(little.intrinsic[0], large.intrinsic[0] / 4)
        np.testing.assert_allclose(little.intrinsic[1], large.intrinsic[1] / 3)


def test_no_two_vehicles_are_alike() -> None:
    first, second = (make_rig(400, 225, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.allclose(first.cameras[0].cam2ego, second.cameras[0].cam2ego)
    assert np.allclose(first.cameras[0].cam2ego, second.cameras[0].cam2ego, atol=0.05)

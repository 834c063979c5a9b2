"""The built-in rig of a nuScenes car."""

import numpy as np

from projects.mmdet3d_plugin.datasets.nuscenes_rig import nuscenes_rig


def test_rig_sees_all_around() -> None:
    intrinsics, cam2lidar = nuscenes_rig()
    assert intrinsics.shape == (6, 3, 3)
    np.testing.assert_allclose(intrinsics[0, 0, 0], 1266.42)
    # optical axes in the LiDAR frame (x right, y forward): front, front right, front left, back, ...
    bearing = np.rad2deg(np.arctan2(cam2lidar[:, 0, 2], cam2lidar[:, 1, 2]))
    np.testing.assert_allclose(bearing, [0, 56, -55, -180, -109, 110], atol=1.0)
    np.testing.assert_allclose(np.linalg.det(cam2lidar[:, :3, :3]), 1)


def test_more_cameras_than_a_nuscenes_car_has_look_evenly_around() -> None:
    intrinsics, cam2lidar = nuscenes_rig(8)
    assert intrinsics.shape == (8, 3, 3)
    bearing = np.unwrap(np.arctan2(cam2lidar[:, 1, 2], cam2lidar[:, 0, 2]))
    np.testing.assert_allclose(np.diff(bearing), np.pi / 4, atol=1e-3)
    np.testing.assert_array_equal(nuscenes_rig(4)[1], nuscenes_rig()[1][:4])

"""The camera rig of a real nuScenes car (scene-0061), for whatever needs its geometry but no data."""

import numpy as np

from projects.mmdet3d_plugin.common.geometry import planar_pose, transform_matrix

IMAGE_SIZE = (1600, 900)

# focal length and principal point in pixels of a 1600x900 image; position (metres) and orientation
# (quaternion w, x, y, z) of the optical frame in the ego frame
_CAMERAS = {
    'CAM_FRONT': (
        1266.42,
        (816.27, 491.51),
        (1.7008, 0.0159, 1.511),
        (-0.499802, 0.503032, -0.49978, 0.497371),
    ),
    'CAM_FRONT_RIGHT': (
        1260.85,
        (807.97, 495.33),
        (1.5508, -0.4934, 1.4957),
        (0.206035, -0.202694, 0.682451, -0.671361),
    ),
    'CAM_FRONT_LEFT': (
        1272.6,
        (826.62, 479.75),
        (1.5239, 0.4946, 1.5093),
        (0.675727, -0.673627, 0.21214, -0.211228),
    ),
    'CAM_BACK': (
        809.22,
        (829.22, 481.78),
        (0.0283, 0.0035, 1.5791),
        (0.503787, -0.497402, -0.494185, 0.50455),
    ),
    'CAM_BACK_LEFT': (
        1256.74,
        (792.11, 492.78),
        (1.0357, 0.4848, 1.591),
        (-0.692419, 0.703162, 0.116483, -0.112033),
    ),
    'CAM_BACK_RIGHT': (
        1259.51,
        (807.25, 501.2),
        (1.0149, -0.4806, 1.5624),
        (-0.12281, 0.132401, 0.700431, -0.690496),
    ),
}
_LIDAR = ((0.9437, 0.0, 1.8402), (0.707796, -0.006492, 0.010646, -0.706307))


LIDAR_TO_EGO = transform_matrix(*reversed(_LIDAR))
"""Pose (4, 4) of the LiDAR on the car, metres."""


def nuscenes_rig(num_cams: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Calibration of the standing car, cameras in the order of the dataset.

    Args:
        num_cams: the first so many of the six; beyond them, the front camera at even angles all around.

    Returns:
        Intrinsics (num_cams, 3, 3) in pixels of a 1600x900 image, and camera-to-LiDAR poses (num_cams, 4, 4) in metres.
    """
    ego2lidar = np.linalg.inv(LIDAR_TO_EGO)
    cameras = list(_CAMERAS.values())
    poses = [ego2lidar @ transform_matrix(rotation, position) for _, _, position, rotation in cameras]
    if num_cams is not None and num_cams > len(cameras):
        turns = 2 * np.pi * np.arange(num_cams) / num_cams
        poses = [planar_pose(0, 0, turn) @ poses[0] for turn in turns]
        cameras = cameras[:1] * num_cams
    intrinsics = [np.array([(f, 0, x), (0, f, y), (0, 0, 1)]) for f, (x, y), _, _ in cameras]
    return np.stack(intrinsics[:num_cams]), np.stack(poses[:num_cams])

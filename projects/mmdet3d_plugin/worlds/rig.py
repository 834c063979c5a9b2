"""The sensor rig of the ego vehicle: six cameras and a LiDAR, laid out as on the nuScenes cars."""

from dataclasses import dataclass

import numpy as np

from projects.mmdet3d_plugin.common.geometry import planar_pose, transform_matrix

# channel: (x, y, z in metres on the ego vehicle; yaw in degrees; focal length in pixels of a 1600x900 image;
# trigger time relative to the LiDAR's, microseconds)
_CAMERAS = {
    'CAM_FRONT': (1.70, 0.00, 1.51, 0.0, 1266.0, -35_000),
    'CAM_FRONT_RIGHT': (1.55, -0.49, 1.50, -56.0, 1261.0, -27_000),
    'CAM_FRONT_LEFT': (1.53, 0.49, 1.51, 55.0, 1272.0, -43_000),
    'CAM_BACK': (0.03, 0.00, 1.58, 180.0, 809.0, -10_000),
    'CAM_BACK_LEFT': (1.04, 0.48, 1.59, 108.5, 1257.0, -1_000),
    'CAM_BACK_RIGHT': (1.01, -0.48, 1.56, -110.5, 1259.0, -20_000),
}
CAMERA_CHANNELS = tuple(_CAMERAS)
LIDAR_CHANNEL = 'LIDAR_TOP'
_REFERENCE_SIZE = (1600, 900)
_PRINCIPAL_POINT = (812.0, 491.0)

# Axes of an optical frame (x right, y down, z ahead) in a body frame (x ahead, y left, z up).
_OPTICAL_TO_BODY = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=np.float64)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on the ego vehicle.

    Attributes:
        channel: nuScenes channel, such as CAM_FRONT.
        intrinsic: (3, 3) pixels, pixel centres at whole numbers.
        cam2ego: (4, 4) optical frame (x right, y down, z ahead) to ego frame.
        width: image width, pixels.
        height: image height, pixels.
        delay_us: trigger time after the keyframe's LiDAR time, microseconds (negative: before).
    """

    channel: str
    intrinsic: np.ndarray
    cam2ego: np.ndarray
    width: int
    height: int
    delay_us: int


@dataclass(frozen=True)
class Rig:
    """All sensors of one vehicle.

    Attributes:
        cameras: on nuScenes cars six, in its order.
        lidar2ego: (4, 4) LiDAR frame (nuScenes: x right, y ahead; KITTI: x ahead, y left; z up) to ego frame.
    """

    cameras: tuple[Camera, ...]
    lidar2ego: np.ndarray


# KITTI's left colour camera and its LiDAR: focal length and principal point in pixels of a 1242x375 image
_KITTI_FOCAL = 721.5
_KITTI_SIZE = (1242, 375)
_KITTI_PRINCIPAL_POINT = (609.6, 172.9)
_KITTI_CAMERA = (1.27, 0.06, 1.65)  # metres on the ego vehicle
_KITTI_LIDAR = (1.0, 0.0, 1.73)


def make_kitti_rig(width: int, height: int, rng: np.random.Generator | None = None) -> Rig:
    """Build the rig of the KITTI car: the left colour camera and a LiDAR that looks ahead along its x axis.

    Args:
        width: image width, pixels.
        height: image height, pixels.
        rng: when given, every mounting differs a little, as from one day to the next.
    """
    cam2ego = transform_matrix(
        _small_rotation(rng) @ _OPTICAL_TO_BODY, np.array(_KITTI_CAMERA) + _jitter(rng, 0.01, 3)
    )
    lidar2ego = transform_matrix(_small_rotation(rng), np.array(_KITTI_LIDAR) + _jitter(rng, 0.01, 3))
    x, y = np.array([width, height]) / np.array(_KITTI_SIZE)
    u, v = np.array(_KITTI_PRINCIPAL_POINT) + _jitter(rng, 4.0, 2)
    intrinsic = np.array([[_KITTI_FOCAL * x, 0, u * x], [0, _KITTI_FOCAL * y, v * y], [0, 0, 1]])
    return Rig((Camera('image_2', intrinsic, cam2ego, width, height, 0),), lidar2ego)


def make_rig(width: int, height: int, rng: np.random.Generator | None = None) -> Rig:
    """Build a rig whose cameras fill images of the asked size with the nuScenes fields of view.

    Args:
        width: image width, pixels.
        height: image height, pixels.
        rng: when given, every mounting differs a little, as from one car to the next.

    Returns:
        The rig.
    """
    cameras = tuple(_make_camera(channel, width, height, rng) for channel in _CAMERAS)
    lidar2ego = transform_matrix(
        _small_rotation(rng) @ _rotation_z(np.deg2rad(-90.0)),
        np.array([0.94, 0.0, 1.84]) + _jitter(rng, 0.01, 3),
    )
    return Rig(cameras, lidar2ego)


def _make_camera(channel: str, width: int, height: int, rng: np.random.Generator | None) -> Camera:
    x, y, z, yaw, focal, delay_us = _CAMERAS[channel]
    cam2ego = transform_matrix(
        _small_rotation(rng) @ _rotation_z(np.deg2rad(yaw)) @ _OPTICAL_TO_BODY,
        np.array([x, y, z]) + _jitter(rng, 0.01, 3),
    )
    focal *= 1 + float(_jitter(rng, 0.004, 1)[0])
    centre = np.array(_PRINCIPAL_POINT) + _jitter(rng, 6.0, 2)
    scale = np.array([width, height]) / np.array(_REFERENCE_SIZE)
    intrinsic = np.array(
        [[focal * scale[0], 0, centre[0] * scale[0]], [0, focal * scale[1], centre[1] * scale[1]], [0, 0, 1]]
    )
    return Camera(channel, intrinsic, cam2ego, width, height, delay_us)


def _jitter(rng: np.random.Generator | None, scale: float, count: int) -> np.ndarray:
    """Bounded random offsets (count,), zero without a generator."""
    return np.zeros(count) if rng is None else rng.uniform(-scale, scale, count)


def _rotation_z(angle: float) -> np.ndarray:
    """Rotation (3, 3) about z by ``angle`` radians."""
    return planar_pose(0, 0, angle)[:3, :3]


def _small_rotation(rng: np.random.Generator | None) -> np.ndarray:
    """Rotation (3, 3) by at most 0.4 degrees about each axis."""
    roll, pitch, yaw = _jitter(rng, np.deg2rad(0.4), 3)
    about_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
    about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    return _rotation_z(yaw) @ about_y @ about_x

"""Poses, corners and projections, against answers worked out by hand and against mmdet3d and the devkit."""

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from nuscenes.utils import geometry_utils
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.common.geometry import (
    BOX_EDGES,
    FOOTPRINT,
    FRONT_FACE,
    box_corners,
    image_bounds,
    lidar_to_image,
    planar_pose,
    rectangle_corners,
    transform_matrix,
    transform_points,
    turn,
)

# a camera at the LiDAR's origin that looks forward (LiDAR y), focal length 50 pixels
LOOKING_FORWARD = np.array([(50, 50, 0, 0), (0, 40, -50, 0), (0, 1, 0, 0), (0, 0, 0, 1)], dtype=float)


def test_a_pose_is_the_devkits() -> None:
    """Records hold quaternions of nearly unit length; twice the length is the same turn."""
    rotation, translation = Quaternion(0.5, -0.1, 0.2, 0.8), (1.0, -2.0, 3.0)
    wanted = geometry_utils.transform_matrix(translation, rotation)
    for form in (rotation, rotation.elements, 2 * rotation.elements, rotation.rotation_matrix):
        np.testing.assert_allclose(transform_matrix(form, translation), wanted, atol=1e-15)
    np.testing.assert_array_equal(transform_matrix(np.eye(3)), np.eye(4))


def test_a_planar_pose_turns_first_and_then_moves() -> None:
    np.testing.assert_allclose(planar_pose(5, 6, np.pi / 2) @ (1, 0, 2, 1), (5, 7, 2, 1), atol=1e-12)
    about_z = Quaternion(axis=(0, 0, 1), radians=0.7)
    np.testing.assert_allclose(planar_pose(5, 6, 0.7), transform_matrix(about_z, (5, 6, 0)), atol=1e-15)


def test_turns_agree_for_arrays_tensors_and_matrices() -> None:
    rng = np.random.default_rng(0)
    points, yaw = rng.normal(size=(6, 4, 3)), rng.uniform(-4, 4, (6, 1))
    wanted = [
        transform_points(p, planar_pose(0, 0, float(a))) for p, a in zip(points, yaw[:, 0], strict=True)
    ]
    np.testing.assert_allclose(turn(points, yaw), wanted, atol=1e-12)
    np.testing.assert_allclose(turn(torch.tensor(points), torch.tensor(yaw)).numpy(), wanted, atol=1e-12)


def test_corners_of_a_turned_box() -> None:
    box = np.array([[10, 20, 1, 4, 2, 3, np.pi / 2]])
    corners = box_corners(box)[0]
    # heading +y: the front is at y + l / 2 and the left side at x - w / 2
    np.testing.assert_allclose(corners[0], (9, 22, -0.5), atol=1e-12)
    np.testing.assert_allclose(corners[6], (11, 18, 2.5), atol=1e-12)
    np.testing.assert_allclose(corners[FRONT_FACE][:, 1], 22)
    np.testing.assert_allclose(corners[FOOTPRINT][:, 2], -0.5)


def test_edges_have_the_lengths_of_the_box() -> None:
    corners = box_corners(np.array([[1, 2, 3, 5, 2, 1.5, 0.7]]))[0]
    lengths = np.linalg.norm(corners[BOX_EDGES[:, 0]] - corners[BOX_EDGES[:, 1]], axis=1)
    np.testing.assert_allclose(np.sort(lengths), [1.5] * 4 + [2] * 4 + [5] * 4)


def test_corners_agree_with_mmdet3d() -> None:
    boxes = torch.randn(6, 7) * torch.tensor([20, 20, 2, 0, 0, 0, 3]) + torch.tensor(
        [0, 0, 0, 4.0, 2.0, 1.5, 0]
    )
    expected = LiDARInstance3DBoxes(boxes, origin=(0.5, 0.5, 0.5)).corners
    ours = box_corners(boxes)
    np.testing.assert_allclose(box_corners(boxes.double().numpy()), ours, atol=1e-4)
    distance = torch.cdist(ours, expected)
    assert distance.amin(2).max() < 1e-4
    assert distance.amin(1).max() < 1e-4


@pytest.mark.parametrize('kind', [np.asarray, torch.as_tensor])
def test_no_box_has_no_corners(kind: object) -> None:
    assert box_corners(kind(np.zeros((0, 9)))).shape == (0, 8, 3)


def test_rectangles_are_footprints_counter_clockwise() -> None:
    boxes = np.array([[1, 2, 3, 5, 2, 1.5, 0.7], [-4, 0, 1, 1, 3, 1, -2.0]])
    corners = rectangle_corners(boxes[:, :2], boxes[:, 3:5], boxes[:, 6])
    wanted = box_corners(boxes)[:, FOOTPRINT, :2]
    for ours, theirs in zip(corners, wanted, strict=True):
        np.testing.assert_allclose(sorted(map(tuple, ours)), sorted(map(tuple, theirs)))
    x, y = np.moveaxis(corners, -1, 0)
    area = (x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1) / 2
    np.testing.assert_allclose(area, [10, 3])


def test_projection_of_a_point_straight_ahead() -> None:
    u_d, v_d, d = transform_points(np.array([0.0, 10, 0]), LOOKING_FORWARD)
    assert (u_d / d, v_d / d, d) == (50, 40, 10)


def test_a_rig_projects_what_a_camera_sees_ahead_to_its_principal_point() -> None:
    intrinsics = np.array([[(700, 0, 320), (0, 700, 180), (0, 0, 1)]], dtype=float)
    cam2lidar = transform_matrix(((1, 0, 0), (0, 0, 1), (0, -1, 0)), (0.5, 1, 2))[None]
    lidar2img = lidar_to_image(intrinsics, cam2lidar)
    assert lidar2img.shape == (1, 4, 4)
    np.testing.assert_allclose(transform_points(np.array([0.5, 11, 2]), lidar2img[0]), (3200, 1800, 10))


def test_bounds_hold_all_corners_of_a_box_ahead_and_nothing_of_one_behind() -> None:
    boxes = torch.tensor([[1.0, 20, 0, 4, 2, 1.5, 0.3], [1, -20, 0, 4, 2, 1.5, 0.3]], dtype=torch.float64)
    corners = box_corners(boxes)
    matrix = torch.from_numpy(LOOKING_FORWARD)
    low, high = image_bounds(corners, matrix.expand(2, 1, 4, 4))
    pixels = transform_points(corners[0], matrix)
    pixels = pixels[:, :2] / pixels[:, 2:]
    torch.testing.assert_close(low[0, 0], pixels.amin(0))
    torch.testing.assert_close(high[0, 0], pixels.amax(0))
    assert (low[1] == torch.inf).all()
    assert (high[1] == -torch.inf).all()
    assert image_bounds(corners[:0], matrix.expand(0, 1, 4, 4))[0].shape == (0, 1, 2)

"""Projected areas against convex hulls, clipped and filled one by one."""

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from shapely.geometry import MultiPoint, box

from projects.mmdet3d_plugin.common.geometry import NEAR, box_corners, image_bounds
from projects.mmdet3d_plugin.distill.regions.pv_area import PVArea, draw_areas
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step

IMAGE = (96.0, 64.0)
SIZE = (16, 24)
NUM_CAMS = 4


def rig(seed: int) -> torch.Tensor:
    """(num_cams, 4, 4): cameras looking outwards in all directions, a little tilted and rolled."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(NUM_CAMS):
        yaw, tilt, roll = i * 2 * math.pi / NUM_CAMS, rng.normal(0, 0.1), rng.normal(0, 0.1)
        forward = np.array([math.cos(yaw) * math.cos(tilt), math.sin(yaw) * math.cos(tilt), math.sin(tilt)])
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        right, down = (
            right * math.cos(roll) + down * math.sin(roll),
            down * math.cos(roll) - right * math.sin(roll),
        )
        rotation, eye = np.stack([right, down, forward]), rng.normal(0, 0.5, 3)
        intrinsic = np.array([[70.0, 0, 47], [0, 68.0, 33], [0, 0, 1]])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = intrinsic @ rotation, -intrinsic @ rotation @ eye
        out.append(matrix)
    return torch.tensor(np.stack(out))


def random_boxes(count: int, seed: int) -> torch.Tensor:
    """Near and far, some around the cameras themselves, so that many cross a near plane or a border."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 7, generator=generator, dtype=torch.float64)
    place = (unit[:, :2] - 0.5) * 24
    extent = unit[:, 2:5] * torch.tensor([6.0, 3, 3]) + 0.2
    return torch.cat([place, unit[:, 5:6] * 2 - 1, extent, unit[:, 6:7] * 8 - 4], dim=1)


def hull_of(one: list[float], matrix: np.ndarray) -> tuple[object, tuple[float, float] | None]:
    """Outline of a box in an image (None when not in front), and the pixel of its centre (None when behind)."""
    x, y, z, length, width, height, yaw = one
    signs = list(product((-0.5, 0.5), repeat=3))
    points = []
    for i, j, k in signs:
        a, b = i * length, j * width
        corner = [
            x + a * math.cos(yaw) - b * math.sin(yaw),
            y + a * math.sin(yaw) + b * math.cos(yaw),
            z + k * height,
        ]
        points.append((matrix @ np.array([*corner, 1.0]))[:3])
    kept = [p for p in points if p[2] >= NEAR]
    for a, b in combinations(range(8), 2):
        if sum(m != n for m, n in zip(signs[a], signs[b], strict=True)) == 1:
            p, q = points[a], points[b]
            if (p[2] < NEAR) != (q[2] < NEAR):
                kept.append(p + (NEAR - p[2]) / (q[2] - p[2]) * (q - p))
    centre = (matrix @ np.array([x, y, z, 1.0]))[:3]
    home = (centre[0] / centre[2], centre[1] / centre[2]) if centre[2] >= NEAR else None
    return (MultiPoint([(p[0] / p[2], p[1] / p[2]) for p in kept]).convex_hull if kept else None), home


def compare_with_hulls(out: torch.Tensor, boxes: torch.Tensor, matrix: torch.Tensor, shape: str) -> int:
    """Assert equality cell by cell for one box per map, leaving out cells on an outline; returns the cells covered."""
    (h, w), (width, height) = SIZE, IMAGE
    columns, rows = np.meshgrid(np.arange(w), np.arange(h))
    pixels = shapely.points((columns + 0.5) * width / w, (rows + 0.5) * height / h)
    covered = 0
    for i, one in enumerate(boxes.tolist()):
        for cam in range(NUM_CAMS):
            hull, home = hull_of(one, matrix[cam].numpy())
            area = hull if hull is None or shape == 'outline' else box(*hull.bounds)
            expected = np.zeros((h, w), bool) if area is None else shapely.covers(area, pixels)
            sure = np.ones((h, w), bool) if area is None else shapely.distance(area.boundary, pixels) >= 1e-6
            if home is not None:
                expected |= (columns == math.floor(home[0] * w / width)) & (
                    rows == math.floor(home[1] * h / height)
                )
            np.testing.assert_array_equal(
                out[i, cam, 0].numpy()[sure], expected[sure], f'box {i}, camera {cam}'
            )
            covered += expected[sure].sum()
    return covered


@pytest.mark.parametrize('shape', ['outline', 'rectangle'])
def test_equals_hulls(shape: str) -> None:
    boxes, matrix = random_boxes(24, 0), rig(0)
    cameras = matrix.expand(len(boxes), -1, -1, -1)
    image = torch.tensor(IMAGE, dtype=torch.float64).expand(len(boxes), NUM_CAMS, 2)
    out = draw_areas(boxes, torch.arange(len(boxes)), cameras, image, SIZE, shape=shape)
    assert out.shape == (24, NUM_CAMS, 1, *SIZE)
    depth = torch.einsum(
        'cj,mkj->mck', matrix[:, 2], torch.nn.functional.pad(box_corners(boxes), (0, 1), value=1.0)
    )
    assert ((depth < NEAR).any(-1) & (depth > NEAR).any(-1)).sum() > 10  # many do cross the near plane
    assert compare_with_hulls(out, boxes, matrix, shape) > 1000


def test_samples_and_weights_do_not_mix() -> None:
    boxes, weights = random_boxes(10, 1), torch.arange(1.0, 11.0, dtype=torch.float64, requires_grad=True)
    sample = torch.tensor([0, 1] * 5)
    cameras = torch.stack([rig(1), rig(2)])
    image = torch.tensor(IMAGE, dtype=torch.float64).expand(2, NUM_CAMS, 2)
    out = draw_areas(boxes, sample, cameras, image, SIZE, weights)
    for i in range(2):
        one = draw_areas(
            boxes[sample == i],
            torch.zeros(5, dtype=torch.long),
            cameras[i : i + 1],
            image[:1],
            SIZE,
            weights[sample == i],
        )
        assert torch.equal(out[i], one[0])
    singles = torch.stack(
        [
            draw_areas(boxes[k : k + 1], sample[k : k + 1], cameras, image, SIZE, weights[k : k + 1])
            for k in range(10)
        ]
    )
    assert torch.equal(out, singles.amax(0))
    out.sum().backward()
    assert (weights.grad >= 0).all()
    assert weights.grad.sum() == (out > 0).sum()


def test_box_behind_all_cameras_and_tiny_box() -> None:
    forward = rig(0)[:1][None]
    image = torch.tensor(IMAGE, dtype=torch.float64).expand(1, 1, 2)
    zero = torch.zeros(1, dtype=torch.long)
    behind = torch.tensor([[-10.0, 0, 0, 4, 2, 2, 0.3]], dtype=torch.float64)
    assert draw_areas(behind, zero, forward, image, SIZE).sum() == 0
    tiny = torch.tensor([[10.0, 0, 0, 0.01, 0.01, 0.01, 0]], dtype=torch.float64)
    assert draw_areas(tiny, zero, forward, image, SIZE).sum() == 1


def test_bounds_of_a_box_straight_ahead() -> None:
    """A 2 m cube whose face is 9 m ahead of a camera with f = 100: +-100 / 9 pixels."""
    matrix = torch.tensor([[50.0, -100, 0, 0], [50, 0, -100, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    cube = torch.tensor([[10.0, 0, 0, 2, 2, 2, 0]])
    low, high = image_bounds(box_corners(cube), matrix[None, None])
    assert torch.allclose(low, torch.tensor(50 - 100 / 9).expand(1, 1, 2))
    assert torch.allclose(high, torch.tensor(50 + 100 / 9).expand(1, 1, 2))


def test_region_of_a_step() -> None:
    boxes = random_boxes(5, 3).float()
    metas = [[{'lidar2img': rig(i).numpy(), 'img_shape': [(64, 96, 3)] * NUM_CAMS}] for i in range(2)]
    step = Step({'gt_bboxes_3d': [boxes, boxes[:0]], 'img_metas': metas}, {}, {})
    like = torch.zeros(2 * NUM_CAMS, 8, *SIZE)
    out, wide = PVArea()(step, like), PVArea(shape='rectangle')(step, like)
    assert out.shape == (2 * NUM_CAMS, 1, *SIZE)
    assert out[:NUM_CAMS].sum() > 0
    assert out[NUM_CAMS:].sum() == 0
    assert (wide >= out).all()
    assert wide.sum() > out.sum()


def test_mistakes_are_clear() -> None:
    with pytest.raises(ValueError, match='shape must be one of'):
        PVArea(shape='ellipse')
    step = Step({'gt_bboxes_3d': [torch.zeros(0, 7)], 'img_metas': [[{}]]}, {}, {})
    with pytest.raises(DistillError, match="no 'lidar2img'"):
        PVArea()(step, torch.zeros(1, 1, 2, 2))


def test_areas_sit_on_the_real_boxes(nuscenes_one_frame: Path) -> None:
    """On the real frame every box that the devkit sees in a camera covers cells there, and only there."""
    pytest.importorskip('nuscenes')
    from nuscenes import NuScenes
    from nuscenes.utils.data_classes import Box
    from nuscenes.utils.geometry_utils import BoxVisibility, box_in_image, transform_matrix
    from pyquaternion import Quaternion

    nusc = NuScenes('v1.0-mini', str(nuscenes_one_frame), verbose=False)
    sample = nusc.sample[0]
    cameras = [name for name in sample['data'] if name.startswith('CAM')]
    matrices, seen = [], []
    for name in cameras:
        _, boxes, intrinsic = nusc.get_sample_data(sample['data'][name], box_vis_level=BoxVisibility.NONE)
        data = nusc.get('sample_data', sample['data'][name])
        sensor, pose = (
            nusc.get('calibrated_sensor', data['calibrated_sensor_token']),
            nusc.get('ego_pose', data['ego_pose_token']),
        )
        to_ego = transform_matrix(sensor['translation'], Quaternion(sensor['rotation']))
        to_world = transform_matrix(pose['translation'], Quaternion(pose['rotation']))
        pixels = np.eye(4)
        pixels[:3, :3] = intrinsic
        matrices.append(pixels @ np.linalg.inv(to_world @ to_ego))
        inside = [box_in_image(one, intrinsic, (1600, 900), BoxVisibility.ALL) for one in boxes]
        seen.append(inside)
    rows = []
    for token in sample['anns']:
        one: Box = nusc.get_box(token)
        width, length, height = one.wlh
        rows.append([*one.center, length, width, height, one.orientation.yaw_pitch_roll[0]])
    out = draw_areas(
        torch.tensor(rows, dtype=torch.float64),
        torch.arange(len(rows)),
        torch.tensor(np.stack(matrices)).expand(len(rows), -1, -1, -1),
        torch.tensor([1600.0, 900.0], dtype=torch.float64).expand(len(rows), len(cameras), 2),
        (90, 160),
    )
    covers = out.flatten(2).sum(-1) > 0
    visible = torch.tensor(seen).t()
    assert visible.sum() >= 50
    assert covers[visible].all()
    assert covers.sum() <= visible.sum() * 1.5

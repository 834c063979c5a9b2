"""Projection of pillars and the pairs of cameras and queries, against loops over single points."""

import numpy as np
import torch

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import (
    pillar_points,
    plane_points,
    project_to_cameras,
    visible_pairs,
)
from tests.factories import IMAGE_SIZE, PC_RANGE, ring_of_cameras

H, W, D = 6, 5, 4


def rig(seeds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    lidar2img = torch.tensor(np.stack([ring_of_cameras(s) for s in seeds]), dtype=torch.float32)
    size = torch.tensor([IMAGE_SIZE[1], IMAGE_SIZE[0]], dtype=torch.float32)
    return lidar2img, size.expand(len(seeds), 6, 2)


def test_grid_runs_over_columns_first() -> None:
    points = plane_points(2, 4, torch.device('cpu'))
    torch.testing.assert_close(points[1], torch.tensor([0.375, 0.25]))
    torch.testing.assert_close(points[4], torch.tensor([0.125, 0.75]))


def test_pillar_heights_are_half_a_metre_inside_the_range() -> None:
    points = pillar_points(H, W, D, PC_RANGE, torch.device('cpu'))
    heights = torch.tensor([-4.5, -4.5 + 7 / 3, -4.5 + 14 / 3, 2.5])
    torch.testing.assert_close(points[0, :, 2], heights)
    torch.testing.assert_close(points[-1, 0, :2], torch.tensor([51.2 * 0.8, 51.2 * (1 - 1 / H)]))


def test_projection_equals_single_points() -> None:
    points = pillar_points(H, W, D, PC_RANGE, torch.device('cpu'))
    lidar2img, size = rig([0, 1])
    uv, inside = project_to_cameras(points, lidar2img, size)
    for b, n, q, d in [(0, 0, 3, 1), (1, 4, 17, 3), (0, 5, 29, 0)]:
        cam = lidar2img[b, n].double() @ torch.cat([points[q, d], torch.ones(1)]).double()
        pixel = cam[:2] / cam[2]
        ok = cam[2] > 0 and 0 < pixel[0] < IMAGE_SIZE[1] and 0 < pixel[1] < IMAGE_SIZE[0]
        assert inside[b, n, q, d] == ok
        if cam[2] > 0:
            torch.testing.assert_close(uv[b, n, q, d].double() * size[b, n], pixel, rtol=1e-4, atol=1e-3)


def test_visibility_is_decided_per_sample() -> None:
    points = pillar_points(H, W, D, PC_RANGE, torch.device('cpu'))
    lidar2img, size = rig([0, 1])
    lidar2img[1] = lidar2img[1].roll(1, 0)  # the second rig lists its cameras in another order
    pairs = visible_pairs(points, lidar2img, size)
    _, inside = project_to_cameras(points, lidar2img, size)
    seen = inside.any(-1)
    expected = [
        (b * 6 + n, b * H * W + q) for b in range(2) for n in range(6) for q in range(H * W) if seen[b, n, q]
    ]
    assert list(zip(pairs.value_index.tolist(), pairs.query_index.tolist(), strict=True)) == expected
    assert torch.equal(pairs.count[..., 0], seen.sum(1).clamp(min=1))


def test_a_rig_that_sees_nothing_gives_no_pairs() -> None:
    points = pillar_points(H, W, D, PC_RANGE, torch.device('cpu'))
    lidar2img, size = rig([0])
    lidar2img[..., 2, 3] = -1e6
    pairs = visible_pairs(points, lidar2img, size)
    assert len(pairs.query_index) == 0
    assert torch.equal(pairs.count, torch.ones(1, H * W, 1, dtype=torch.long))

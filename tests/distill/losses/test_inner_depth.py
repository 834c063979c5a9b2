"""Relative depth within objects."""

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.distill.losses.inner_depth import InnerDepth, object_pixels, relative_depth
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.hosts.bevdepth.depth_target import nearest_depth
from tests.distill.regions.lidar_boxes import lidar_boxes

IMAGE = (32, 64)  # features of 4 x 8 cells
# one camera at the origin that looks along y: u = 32 + 32 x / y, v = 16 - 32 z / y
CAMERA = np.array([[32.0, 32, 0, 0], [0, 16, -32, 0], [0, 1, 0, 0], [0, 0, 0, 1]])[None]
BOXES = [[0.0, 12.0, 0, 6, 4, 4, 0.0], [-8.0, 12.0, 0, 3, 4, 4, 0.0]]


def step(samples: int = 1, boxes: list = BOXES) -> Step:
    generator = torch.Generator().manual_seed(0)
    points = [
        torch.rand(400, 3, generator=generator) * torch.tensor([20.0, 4, 4]) - torch.tensor([10.0, -10, 2])
    ]
    meta = dict(lidar2img=CAMERA, img_shape=[(*IMAGE, 3)])
    batch = dict(
        points=points * samples, img_metas=[[meta]] * samples, gt_bboxes_3d=[lidar_boxes(boxes)] * samples
    )
    return Step(batch, {}, {})


def naive(expected: torch.Tensor, world: Step) -> float:
    """Cell by cell, object by object."""
    errors: dict[int, list[float]] = {}
    for row in range(4):
        for column in range(8):
            best = None
            for x, y, z in world.batch['points'][0].tolist():
                if y <= 0 or not (0 <= 32 + 32 * x / y < 64 and 0 <= 16 - 32 * z / y < 32):
                    continue
                if (int((16 - 32 * z / y) / 8), int((32 + 32 * x / y) / 8)) != (row, column):
                    continue
                if best is None or y < best[0]:
                    owners = [
                        i
                        for i, (bx, by, bz, length, width, height, _) in enumerate(BOXES)
                        if abs(x - bx) < length / 2 and abs(y - by) < width / 2 and abs(z - bz) < height / 2
                    ]
                    best = (y, owners)
            if best and best[1]:
                errors.setdefault(best[1][0], []).append(expected[0, 0, row, column].item() - best[0])
    total = [(e - min(group, key=abs)) ** 2 for group in errors.values() for e in group]
    assert len(errors) == 2
    return sum(total) / len(total)


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1, 1, 4, 8) * 20
    assert InnerDepth()(expected, step=step()).item() == pytest.approx(naive(expected, step()), rel=1e-4)


def test_right_relative_depth_costs_nothing_however_far_off_the_object_is() -> None:
    world = step()
    lidar2img = torch.from_numpy(CAMERA)[None].float()
    truth = nearest_depth(world.batch['points'], lidar2img, IMAGE, 8)[:, None]
    assert InnerDepth()(truth.clamp(max=99), step=world).item() == pytest.approx(0, abs=1e-8)
    assert InnerDepth()(truth.clamp(max=99) + 3, step=world).item() == pytest.approx(0, abs=1e-8)
    index, _, group = object_pixels(
        world.batch['points'][0], world.batch['gt_bboxes_3d'][0], lidar2img[0], IMAGE, (4, 8)
    )
    assert len(index) > 4
    assert group.unique().tolist() == [0, 1]


def test_gradients_are_right_and_two_samples_are_two_of_one() -> None:
    torch.manual_seed(0)
    depth = torch.rand(2, 1, 4, 8, dtype=torch.float64)
    whole = InnerDepth()(depth, step=step(2))
    halves = [InnerDepth()(depth[i : i + 1], step=step()) for i in range(2)]
    torch.testing.assert_close(whole, sum(halves) / 2)
    group, truth = torch.tensor([0, 0, 1]), torch.rand(3)
    small = torch.rand(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: relative_depth(e, torch.tensor([0, 2, 4]), truth, group), small)


def test_nothing_to_learn_is_zero_with_a_live_graph() -> None:
    depth = torch.rand(1, 1, 4, 8, requires_grad=True)
    loss = InnerDepth()(depth, step=step(boxes=[]))
    assert loss.item() == 0
    loss.backward()
    world = step()
    del world.batch['points']
    with pytest.raises(DistillError, match='put LoadPoints into the training pipeline'):
        InnerDepth()(depth, step=world)

"""Footprints against polygons drawn one by one."""

import math

import numpy as np
import pytest
import shapely
import torch
from shapely.geometry import Polygon

from projects.mmdet3d_plugin.distill.regions.bev_footprint import BEVFootprint, draw_footprints
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step

RANGE = [-20.0, -16.0, -5.0, 20.0, 16.0, 3.0]
SIZE = (40, 60)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    """Some cross the border, some lie outside, all headings, from cone to bus."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 7, generator=generator, dtype=torch.float64)
    place = (unit[:, :2] - 0.5) * torch.tensor([50.0, 40.0])
    extent = torch.stack([unit[:, 2] * 12 + 0.2, unit[:, 3] * 3 + 0.2, unit[:, 4] * 3 + 0.5], dim=1)
    return torch.cat([place, unit[:, 5:6], extent, unit[:, 6:7] * 8 - 4], dim=1)


def naive(boxes: torch.Tensor, weights: list[float], margin: float = 0.0) -> torch.Tensor:
    """Test every cell of every box."""
    h, w = SIZE
    out = torch.zeros(h, w, dtype=torch.float64)
    cell_x, cell_y = (RANGE[3] - RANGE[0]) / w, (RANGE[4] - RANGE[1]) / h
    columns, rows = np.meshgrid(np.arange(w), np.arange(h))
    centres = shapely.points(RANGE[0] + (columns + 0.5) * cell_x, RANGE[1] + (rows + 0.5) * cell_y)
    for (x, y, _, length, width, _, yaw), weight in zip(boxes.tolist(), weights, strict=True):
        a, b = length / 2 + margin, width / 2 + margin
        corners = [(a, b), (-a, b), (-a, -b), (a, -b)]
        c, s = math.cos(yaw), math.sin(yaw)
        polygon = Polygon([(x + i * c - j * s, y + i * s + j * c) for i, j in corners])
        home = (math.floor((x - RANGE[0]) / cell_x), math.floor((y - RANGE[1]) / cell_y))
        covered = shapely.covers(polygon, centres) | ((columns == home[0]) & (rows == home[1]))
        out[covered] = out[covered].clamp(min=weight)
    return out


@pytest.mark.parametrize('margin', [0.0, 0.7])
def test_equals_polygons(margin: float) -> None:
    boxes = torch.cat([random_boxes(6, 0), random_boxes(5, 1)])
    sample = torch.tensor([0] * 6 + [2] * 5)
    weights = torch.rand(11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = draw_footprints(boxes, sample, RANGE, SIZE, 3, weights, margin)
    assert out.shape == (3, 1, *SIZE)
    assert torch.equal(out[0, 0], naive(boxes[:6], weights[:6].tolist(), margin))
    assert out[1].abs().max() == 0
    assert torch.equal(out[2, 0], naive(boxes[6:], weights[6:].tolist(), margin))


def test_area_and_heading() -> None:
    """4 m along the diagonal, 1 m across: the covered area is about 4 square metres and lies on the diagonal."""
    box = torch.tensor([[0.013, 0.031, 0.0, 4.0, 1.0, 1.5, math.pi / 4]])
    out = draw_footprints(box, torch.zeros(1, dtype=torch.long), [-5, -5, 0, 5, 5, 1], (200, 200), 1)[0, 0]
    assert out.sum().item() * 0.05**2 == pytest.approx(4.0, rel=0.02)
    row, column = out.nonzero().unbind(1)
    assert torch.corrcoef(torch.stack([row, column]).float())[0, 1] > 0.8


def test_small_box_keeps_its_cell_and_far_box_vanishes() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0, 0.01, 0.01, 1, 0], [90.0, 0, 0, 4, 2, 1, 0]])
    out = draw_footprints(boxes, torch.tensor([0, 0]), RANGE, SIZE, 1)
    assert out.sum() == 1
    assert out[0, 0, 20, 30] == 1


def test_gradients_flow_to_the_weights() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [10.0, 5, 0, 4, 2, 1, 1.0]])
    weights = torch.tensor([0.5, 2.0], requires_grad=True)
    draw_footprints(boxes, torch.tensor([0, 0]), RANGE, SIZE, 1, weights).sum().backward()
    areas = [draw_footprints(boxes[i : i + 1], torch.tensor([0]), RANGE, SIZE, 1).sum() for i in range(2)]
    assert weights.grad.tolist() == [area.item() for area in areas]


def test_region_of_a_step_and_no_boxes() -> None:
    boxes = random_boxes(4, 2).float()
    step = Step({'gt_bboxes_3d': [boxes, boxes[:0]], 'img_metas': [[{'pc_range': RANGE}]] * 2}, {}, {})
    out = BEVFootprint()(step, torch.zeros(2, 8, *SIZE))
    assert out.shape == (2, 1, *SIZE)
    assert out[0].sum() > 0
    assert out[1].sum() == 0


def test_one_absurd_box_costs_no_more_than_the_map() -> None:
    """A window as large as the largest box for every box took 14 GB here; now each has its own, cut at the border."""
    boxes = torch.zeros(101, 7)
    boxes[:, :2] = torch.linspace(-40, 40, 101)[:, None]
    boxes[:, 3:6] = torch.tensor([4.0, 2.0, 1.5])
    boxes[-1, 3:5] = 1100.0
    sample = torch.zeros(101, dtype=torch.long)
    limits = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
    drawn = draw_footprints(boxes, sample, limits, (200, 200), 1)
    assert drawn.all()
    usual = draw_footprints(boxes[:100], sample[:100], limits, (200, 200), 1)
    assert 0 < usual.sum() < 0.05 * usual.numel()


@pytest.mark.parametrize('number', [float('nan'), float('inf')])
def test_a_box_that_is_no_box_is_named(number: float) -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.0, number, 2.0, 1.5, 0.0]])
    with pytest.raises(DistillError, match='not finite'):
        draw_footprints(boxes, torch.zeros(1, dtype=torch.long), [-8, -8, -5, 8, 8, 3], (16, 16), 1)

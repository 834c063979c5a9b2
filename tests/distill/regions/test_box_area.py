"""Areas of 2D boxes on image features."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.regions.box_area import BoxArea, draw_boxes, spatial_attention
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step

IMAGE = (64, 96)
LIKE = torch.randn(2, 4, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def step(boxes: list[Tensor], detections: list[Detections] | None = None) -> Step:
    batch = {'img': torch.zeros(len(boxes), 3, *IMAGE), 'gt_bboxes': boxes}
    return Step(batch, {}, {}, detect=None if detections is None else lambda: detections)


def by_loops(boxes: Tensor, sample: Tensor, weight: Tensor, shape: tuple[int, ...], balance: bool) -> Tensor:
    """Cell by cell, box by box."""
    b, _, h, w = shape
    dy, dx = IMAGE[0] / h, IMAGE[1] / w
    canvas = torch.zeros(b, 1, h, w, dtype=weight.dtype)
    for (x0, y0, x1, y1), i, value in zip(boxes.tolist(), sample.tolist(), weight.tolist(), strict=True):
        cells = [
            (r, c)
            for r in range(h)
            for c in range(w)
            if x0 <= (c + 0.5) * dx <= x1 and y0 <= (r + 0.5) * dy <= y1
        ]
        if not cells:
            cells = [(min(h - 1, int((y0 + y1) / 2 / dy)), min(w - 1, int((x0 + x1) / 2 / dx)))]
        for r, c in cells:
            share = value / len(cells) if balance else value
            canvas[i, 0, r, c] = max(canvas[i, 0, r, c].item(), share)
    return canvas


@pytest.mark.parametrize('balance', [False, True])
def test_equals_a_loop_over_cells(balance: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(40, 2, 2, generator=generator, dtype=torch.float64)
    corners *= torch.tensor([IMAGE[1], IMAGE[0]], dtype=torch.float64)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes[::5, 2:] = boxes[::5, :2] + 1.5  # smaller than a cell
    sample = torch.randint(2, (40,), generator=generator)
    weight = torch.rand(40, generator=generator, dtype=torch.float64)
    drawn = draw_boxes(boxes, sample, weight, IMAGE, tuple(LIKE.shape), balance)
    torch.testing.assert_close(drawn, by_loops(boxes, sample, weight, tuple(LIKE.shape), balance))


def test_inside_and_outside_share_the_map_out() -> None:
    boxes = [torch.tensor([[0.0, 0.0, 48.0, 64.0]]), torch.zeros(0, 4)]
    inside, outside = BoxArea()(step(boxes), LIKE), BoxArea(outside=True)(step(boxes), LIKE)
    assert ((inside + outside) == 1).all()
    assert inside[0, 0, :, :6].all()
    assert inside.sum() == 48
    assert outside[1].all()


def test_balance_gives_every_box_the_same_total_and_the_smallest_wins() -> None:
    large, small = [0.0, 0.0, 96.0, 64.0], [16.0, 16.0, 32.0, 32.0]
    area = BoxArea(balance=True)(step([torch.tensor([large, small]), torch.tensor([large])]), LIKE)
    assert area[1].sum() == pytest.approx(1.0)
    assert (area[0, 0, 2:4, 2:4] == 1 / 4).all()
    assert area[0, 0, 0, 0] == pytest.approx(1 / 96)


def test_teachers_boxes_weigh_their_scores() -> None:
    found = Detections(
        torch.tensor([[0.0, 0.0, 16.0, 16.0], [48.0, 0.0, 64.0, 16.0]]),
        torch.tensor([0.75, 0.1]),
        torch.zeros(2),
    )
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
    boxes = [torch.tensor([[0.0, 48.0, 16.0, 64.0]]), torch.zeros(0, 4)]
    area = BoxArea('teacher')(step(boxes, [found, none]), LIKE)
    assert area[0].unique().tolist() == [0.0, 0.75]
    assert area.sum() == 3.0
    both = BoxArea('both', min_score=0.05)(step(boxes, [found, none]), LIKE)
    assert both[0].unique().tolist() == pytest.approx([0.0, 0.1, 0.75, 1.0])


def test_attention_has_mean_one_and_follows_the_feature() -> None:
    attention = spatial_attention(LIKE, 0.5)
    torch.testing.assert_close(attention.mean((1, 2, 3)), torch.ones(2, dtype=torch.float64))
    strength = LIKE.abs().mean(1).flatten(1)
    assert torch.equal(attention.flatten(1).argsort(), strength.argsort())
    boxes = [torch.tensor([[0.0, 0.0, 96.0, 64.0]])] * 2
    torch.testing.assert_close(BoxArea(attention=0.5)(step(boxes), LIKE), attention)


def test_no_boxes_give_no_area_and_a_batch_of_two_is_two_of_one() -> None:
    assert not BoxArea(balance=True)(step([torch.zeros(0, 4)] * 2), LIKE).any()
    boxes = [
        torch.tensor([[3.0, 5.0, 40.0, 30.0]]),
        torch.tensor([[50.0, 2.0, 90.0, 60.0], [1.0, 1.0, 9.0, 9.0]]),
    ]
    region = BoxArea(balance=True, attention=0.5)
    alone = [region(step([boxes[i]]), LIKE[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(region(step(boxes), LIKE), torch.cat(alone))


def test_mistakes_are_told() -> None:
    with pytest.raises(DistillError, match='PVArea draws 3D boxes'):
        BoxArea()(Step({'img': torch.zeros(1, 3, *IMAGE)}, {}, {}), LIKE)
    with pytest.raises(DistillError, match='not finite'):
        BoxArea()(step([torch.full((1, 4), torch.nan), torch.zeros(0, 4)]), LIKE)
    with pytest.raises(DistillError, match='no teacher has run'):
        BoxArea('teacher')(step([torch.zeros(0, 4)] * 2), LIKE)
    for wrong in (dict(source='queries'), dict(attention=0.0), dict(min_score=2.0)):
        with pytest.raises(ValueError, match='must be'):
            BoxArea(**wrong)

"""Head inheritance: copied, resized, left, and said so."""

from collections.abc import Callable

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.inherit_head import InheritHead, resize_grid
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError

Recipe = Callable[..., Config]


def pair(recipe: Recipe, channels: int) -> Distiller:
    cfg = recipe(terms=[])
    cfg.model.channels = channels
    return build_distiller(cfg)


def test_report_tells_what_happened_to_every_weight(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    distiller = pair(recipe, channels=6)
    with caplog.at_level('INFO', logger='focaldistiller'):
        report = InheritHead()(distiller.student, distiller.adapter, distiller.teacher)
    assert report.copied == ['head.out.weight', 'head.out.bias']
    assert report.resized == ['head.bev_embedding.weight']
    assert report.left == []
    assert '2 weights copied from the teacher, 1 resized (head.bev_embedding.weight), 0 left' in caplog.text


def test_weights_are_copies_and_the_rest_is_untouched(recipe: Recipe) -> None:
    distiller = pair(recipe, channels=6)
    before = distiller.student.encoder.weight.clone()
    InheritHead()(distiller.student, distiller.adapter, distiller.teacher)
    head, teacher = distiller.student.head, distiller.teacher.model.head
    assert torch.equal(head.out.weight, teacher.out.weight)
    assert head.out.weight.data_ptr() != teacher.out.weight.data_ptr()
    assert torch.equal(distiller.student.encoder.weight, before)
    halved = teacher.bev_embedding.weight.view(8, 2, 8, 2, 6).mean((1, 3)).view(64, 6)
    torch.testing.assert_close(head.bev_embedding.weight.detach(), halved.detach())
    distiller.teacher.require_unchanged()


def test_other_widths_and_excluded_parts_are_left(recipe: Recipe) -> None:
    distiller = pair(recipe, channels=4)
    report = InheritHead()(distiller.student, distiller.adapter, distiller.teacher)
    assert report.left == ['head.bev_embedding.weight', 'head.out.weight']
    distiller = pair(recipe, channels=6)
    report = InheritHead(resize=False, exclude=['out.w'])(
        distiller.student, distiller.adapter, distiller.teacher
    )
    assert report.copied == ['head.out.bias']
    assert report.left == ['head.bev_embedding.weight', 'head.out.weight']


def test_nothing_to_inherit_is_an_error(recipe: Recipe) -> None:
    distiller = pair(recipe, channels=6)
    with pytest.raises(DistillError, match=r"no weight under 'head\.'"):
        InheritHead(exclude=[''])(distiller.student, distiller.adapter, distiller.teacher)


def test_resizing_keeps_a_linear_ramp() -> None:
    """Along both axes, away from the border, where bilinear interpolation has to clamp."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(10.0), indexing='ij')
    ramp = torch.stack([rows, columns], dim=-1).view(80, 2)
    out = resize_grid(ramp, (8, 10), (16, 5)).view(16, 5, 2)
    assert torch.allclose(out[1:-1, :, 0], ((torch.arange(16.0) + 0.5) / 2 - 0.5)[1:-1, None].expand(14, 5))
    assert torch.allclose(out[..., 1], ((torch.arange(5.0) + 0.5) * 2 - 0.5).expand(16, 5))
    line = resize_grid(torch.arange(4.0)[:, None], (4,), (2,))
    assert line.flatten().tolist() == [0.5, 2.5]

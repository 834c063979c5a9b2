"""Decoupled logits between dense heads: which places count, and that any teacher will do."""

from typing import Any

import pytest
import torch
from mmcv import Config
from torch import Tensor

from projects.mmdet3d_plugin.distill.dense_heads.object_queries import ObjectQueries
from projects.mmdet3d_plugin.distill.losses.decoupled import sigmoid_decoupled
from projects.mmdet3d_plugin.distill.losses.decoupled_logits import DecoupledLogits
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from tests.factories import frame_batch, pint_bevformer_config
from tests.lidar_factories import emptied, lidar_batch, pillar_config

CLASSES = ['Pedestrian', 'Cyclist', 'Car']


def loss_of(**settings: Any) -> DecoupledLogits:
    """The loss between two sets of queries."""

    def queries() -> ObjectQueries:
        return ObjectQueries(torch.nn.Identity())

    return DecoupledLogits(queries, queries, **settings)


def logits(seed: int, batch: int = 2) -> Tensor:
    """(batch, 7, 3), some of them sure of something."""
    generator = torch.Generator().manual_seed(seed)
    return 2.5 * torch.randn(batch, 7, 3, generator=generator, dtype=torch.float64) - 2


def outputs(z: Tensor) -> dict[str, Tensor]:
    """What a head with one layer gives."""
    return {'all_cls_scores': z[None]}


def test_it_is_the_mean_over_sure_places_then_over_samples() -> None:
    student, teacher = logits(0), logits(1)
    loss, wanted = loss_of(temperature=2.0, beta=0.5, score_thr=0.3), []
    for z, t in zip(student, teacher, strict=True):
        rows = [
            sigmoid_decoupled(a[None], b[None], b.argmax()[None], 2.0, 1.0, 0.5)
            for a, b in zip(z, t, strict=True)
            if max(a[b.argmax()].sigmoid(), b.max().sigmoid()) >= 0.3
        ]
        assert 0 < len(rows) < 7
        wanted.append(torch.cat(rows).mean())
    found = loss(outputs(student), outputs(teacher))
    assert torch.allclose(found, torch.stack(wanted).mean(), rtol=1e-12)


def test_order_of_places_and_samples_does_not_matter() -> None:
    student, teacher, loss = logits(0), logits(1), loss_of()
    whole = loss(outputs(student), outputs(teacher))
    order = torch.tensor([3, 0, 6, 2, 1, 5, 4])
    mixed = loss(outputs(student[:, order].flip(0)), outputs(teacher[:, order].flip(0)))
    halves = [loss(outputs(student[i : i + 1]), outputs(teacher[i : i + 1])) for i in range(2)]
    assert torch.allclose(mixed, whole, rtol=1e-12)
    assert torch.allclose(torch.stack(halves).mean(), whole, rtol=1e-12)


def test_nothing_sure_is_exactly_0_and_live() -> None:
    student = torch.full((2, 7, 3), -9.0, requires_grad=True)
    loss = loss_of()(outputs(student), outputs(student.detach()))
    assert loss.item() == 0
    loss.backward()
    assert student.grad.abs().sum() == 0


def test_gradcheck() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    torch.autograd.gradcheck(lambda z: loss_of(form='softmax')(outputs(z), outputs(teacher)), [student])


def test_other_grids_are_refused() -> None:
    with pytest.raises(ValueError, match='same grid and classes'):
        loss_of()(outputs(logits(0)), outputs(logits(1)[:, :5]))


def distiller_of(model: dict[str, Any], terms: list[dict], teacher: dict, classes: list[str]) -> Any:
    torch.manual_seed(0)
    distiller = dict(teacher=teacher, terms=terms, debug=True)
    model = build_distiller(Config(dict(model=model, class_names=classes, distiller=distiller)))
    model.init_weights()
    return model.train()


TERM = dict(type='DecoupledLogits', name='logits', on='heads', temperature=2.0, score_thr=0.0)


def test_the_average_of_a_camera_detector_teaches_its_queries() -> None:
    model = distiller_of(
        pint_bevformer_config(), [TERM], dict(type='EMATeacher'), [f'class_{i}' for i in range(10)]
    )
    model.student.eval()  # without dropout
    batch = frame_batch([0])
    assert model(**batch)['loss_kd_logits'].item() < 1e-6  # the average begins as the student
    with torch.no_grad():
        for weight in model.student.pts_bbox_head.parameters():
            weight.mul_(1.1)
    loss = model(**batch)['loss_kd_logits']
    assert loss.item() > 1e-5
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.student.img_backbone.parameters())


def test_empty_clouds_and_no_boxes_keep_the_graph_alive() -> None:
    model = distiller_of(pillar_config(), [TERM], dict(type='EMATeacher'), CLASSES)
    batch = emptied(lidar_batch([0, 1]), [0])
    batch['gt_bboxes_3d'] = [boxes[:0] for boxes in batch['gt_bboxes_3d']]
    batch['gt_labels_3d'] = [labels[:0] for labels in batch['gt_labels_3d']]
    loss = model(**batch)['loss_kd_logits']
    assert loss.isfinite()
    assert loss.requires_grad

"""A second stage beside a student of one stage."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.second_stage import SecondStage
from projects.mmdet3d_plugin.distill.teachers.self_teacher import SelfTeacher
from tests.lidar_factories import (
    centerpoint_config,
    emptied,
    lidar_batch,
    pillar_config,
    roi_head_config,
    second_config,
)

HOSTS = {'pillars': pillar_config, 'voxels': second_config, 'cells': centerpoint_config}


def distiller_of(make: Callable[[], dict[str, Any]], **settings: Any) -> Distiller:
    torch.manual_seed(0)
    student = build_model(ConfigDict(make()))
    student.init_weights()
    head = SecondStage(student, roi_head_config(stage_0=8, bev=16), **settings)
    return Distiller(student, SelfTeacher(student), {}, head=head).train()


def rows_of(kind: str, outputs: Any) -> Tensor:
    """Logits of all rows (B, A, classes), of a class that a task does not have -inf."""
    if kind != 'cells':
        return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, 3) for level in outputs[0]], 1)
    rows, first = [], 0
    for task in outputs:
        logits = task['heatmap'].flatten(2).transpose(1, 2)
        classes = logits.shape[2]
        rows.append(nn.functional.pad(logits, (first, 3 - first - classes), value=-torch.inf))
        first += classes
    return torch.cat(rows, 1)


@pytest.mark.parametrize('kind', HOSTS)
def test_boxes_know_the_students_rows(kind: str) -> None:
    distiller = distiller_of(HOSTS[kind])
    _, step = distiller.run_models(lidar_batch([0, 1], 9 if kind == 'cells' else 7))
    refined, tap = step.refined, distiller.head.student_taps[0]
    logits = rows_of(kind, tap.convert(step.student[tap.path]))
    mine = logits[refined.proposals.batch_index, refined.proposals.indices]
    assert mine.requires_grad  # a term can teach them
    torch.testing.assert_close(mine.amax(1).sigmoid(), refined.proposals.scores)
    assert mine.argmax(1).tolist() == refined.proposals.labels.tolist()
    assert refined.boxes.requires_grad
    assert not refined.proposals.boxes.requires_grad
    assert 0 < len(refined) <= 24  # shifted objects, which have no row, are left out


@pytest.mark.parametrize('kind', HOSTS)
@pytest.mark.parametrize('teaches', [True, False])
def test_its_own_losses_reach_the_backbone_where_they_may(kind: str, teaches: bool) -> None:
    distiller = distiller_of(HOSTS[kind], teach_backbone=teaches, weight=2.0)
    losses, _ = distiller.run_models(lidar_batch([0, 1], 9 if kind == 'cells' else 7))
    own = {name: loss for name, loss in losses.items() if name.startswith('loss_head_')}
    assert set(own) == {'loss_head_rcnn_iou', 'loss_head_rcnn_box', 'loss_head_rcnn_corner'}
    sum(own.values()).backward()
    taught = {
        name
        for name, weight in distiller.student.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }
    assert any('backbone' in name for name in taught) == teaches
    assert not any('bbox_head' in name for name in taught)
    assert all(weight.grad is not None for weight in distiller.head.parameters())


def test_the_student_stays_plain() -> None:
    distiller = distiller_of(pillar_config)
    plain = build_model(ConfigDict(pillar_config())).state_dict()
    keys = set(distiller.state_dict())
    assert {key for key in keys if not key.startswith('distill.')} == set(plain)
    assert all(key.startswith('distill.head.roi_head.') for key in keys - set(plain))
    batch = lidar_batch([3])
    tested = distiller.eval()(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    alone = distiller.student(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    assert torch.equal(tested[0]['boxes_3d'].tensor, alone[0]['boxes_3d'].tensor)


def test_nothing_to_see() -> None:
    """No points and no objects: finite losses, and a gradient for every weight of the head."""
    distiller = distiller_of(pillar_config)
    batch = emptied(lidar_batch([0, 1]), [0, 1])
    batch |= {key: [item[:0] for item in batch[key]] for key in ('gt_bboxes_3d', 'gt_labels_3d')}
    losses, step = distiller.run_models(batch)
    own = sum(loss for name, loss in losses.items() if name.startswith('loss_head_'))
    own.backward()
    assert own.isfinite()
    assert all(weight.grad is not None for weight in distiller.head.parameters())
    assert step.refined.boxes.isfinite().all()


def test_what_a_recipe_gets_wrong() -> None:
    student = build_model(ConfigDict(pillar_config()))
    with pytest.raises(UserError, match='num_classes is 4, but the first stage knows 3'):
        SecondStage(student, roi_head_config(bev=16) | dict(num_classes=4))
    with pytest.raises(DistillError, match=r"no module 'middle_encoder\.encoder_layers\.encoder_layer2'"):
        SecondStage(student, roi_head_config(voxels_1=16))
    points = build_model(ConfigDict(pillar_config()))
    with pytest.raises(DistillError, match='no adapter for the host Sequential'):
        SecondStage(nn.Sequential(points), roi_head_config(bev=16))

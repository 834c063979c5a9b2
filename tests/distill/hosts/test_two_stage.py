"""Detectors with a second stage as teachers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_terms
from projects.mmdet3d_plugin.distill.targets.teacher_labels import TeacherLabels
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from tests.lidar_factories import (
    emptied,
    lidar_batch,
    pillar_config,
    two_stage_centerpoint_config,
    two_stage_config,
)

HOSTS = {'anchors': two_stage_config, 'cells': two_stage_centerpoint_config}


def teacher_of(make: Callable[[], dict[str, Any]]) -> tuple[FrozenTeacher, nn.Module]:
    torch.manual_seed(0)
    model = build_model(ConfigDict(make()))
    return FrozenTeacher.from_model(model), model


@pytest.mark.parametrize('kind', HOSTS)
def test_a_frozen_teacher_gives_refined_boxes(kind: str) -> None:
    teacher, model = teacher_of(HOSTS[kind])
    batch = lidar_batch([0, 1])
    taps = [*teacher.taps('heads'), *teacher.taps('second_stage'), *teacher.taps('bev')]
    seen = teacher.observe(batch, taps, torch.device('cpu'))
    refined = seen.features['roi_head']
    assert not refined.boxes.requires_grad
    assert refined.proposals.remembered.all()
    assert torch.equal(refined.boxes, seen.predictions.refined.boxes)
    found = teacher.detect(seen)
    tested = model(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    for one, other in zip(found, tested, strict=True):
        assert torch.equal(one.boxes.tensor, other.get('pts_bbox', other)['boxes_3d'].tensor)
        # ... and these boxes become labels
    more = TeacherLabels(score_thr=0.0)({**batch, 'gt_bboxes_3d': [b[:0] for b in batch['gt_bboxes_3d']],
                                         'gt_labels_3d': [n[:0] for n in batch['gt_labels_3d']]}, found)  # fmt: skip
    assert all(len(boxes) > 0 for boxes in more['gt_bboxes_3d'])


def test_a_cloud_without_points_has_no_boxes() -> None:
    teacher, _ = teacher_of(two_stage_config)
    seen = teacher.observe(emptied(lidar_batch([0, 1]), [1]), [], torch.device('cpu'))
    counts = [len(one.scores) for one in teacher.detect(seen)]
    assert counts[0] > 0
    assert counts[1] == 0


def test_a_frozen_second_stage_teaches_a_detector_of_one() -> None:
    """Cross-stage: each refined box teaches the anchor of the student whose index its proposal remembers."""
    teacher, model = teacher_of(two_stage_config)
    student = build_model(ConfigDict(pillar_config())).train()
    student.init_weights()
    on = dict(student='heads', teacher='second_stage')
    terms = build_terms(
        [dict(type='HeadToHead', on=on, name='heads', score_thr=0.0, box_thr=0.0)], student, teacher
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = Distiller(student, teacher, terms, debug=True)(**lidar_batch([0, 1]))
    assert losses['loss_kd_heads'] > 0
    losses['loss_kd_heads'].backward()
    assert student.bbox_head.conv_cls.weight.grad.any()
    assert student.bbox_head.conv_reg.weight.grad.any()
    assert student.backbone.blocks[0][0].weight.grad.any()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())

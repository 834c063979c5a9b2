"""LidarFormer as a teacher, of LiDAR and of camera students."""

from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distillation_head import DistillationHead
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.inherit_head import InheritHead
from projects.mmdet3d_plugin.distill.recipe import build_distiller, build_terms
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from tests.lidar_factories import (
    centerpoint_config,
    emptied,
    lidar_batch,
    lidarformer_config,
    pillar_config,
)

FOCAL = dict(type='FocalPositions', on='bev', connector='resize', compare='values', weight=1.0)
GENERATED = dict(
    type='MaskedGeneration',
    on='bev',
    connector='resize',
    region=dict(type='BEVFootprint', source='both'),
    residual=True,
)


def built(cfg: dict[str, Any], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(ConfigDict(cfg))
    model.init_weights()
    return model


@pytest.mark.parametrize('init', ['teacher', 'scratch'])
def test_fd3d_between_two_of_them(init: str) -> None:
    """Its queries, or those of a head trained along, say where on its BEV feature; gradients reach the pillars."""
    model, student = built(lidarformer_config()), built(lidarformer_config(), 1).train()
    teacher = FrozenTeacher.from_model(model)
    head = DistillationHead(teacher, init=init)
    focal = dict(FOCAL, min_score=0.0)
    terms = build_terms([dict(focal, name='focal'), dict(GENERATED, name='generated')], student, teacher)
    distiller = Distiller(student, teacher, terms, head=head)
    losses = distiller(**lidar_batch([0, 1], 9))
    assert any(key.startswith('loss_head_') for key in losses) == (init == 'scratch')
    taught = {key: value for key, value in losses.items() if 'kd' in key}
    assert len(taught) == 2
    assert all(value.isfinite() and value > 0 for value in taught.values())
    sum(taught.values()).backward()
    assert student.pts_voxel_encoder.pfn_layers[0].linear.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.parameters())


def test_a_head_that_is_trained_along_starts_from_rare_objects() -> None:
    model = built(lidarformer_config())
    head = adapter_for(model).fresh_query_head(model)
    assert torch.allclose(head.proposals.dense.heatmap.bias.sigmoid(), torch.tensor(0.05))


def test_velocities_of_another_unit_are_not_inherited() -> None:
    cfg = load_config('cross_near_distill_lidarformer_fd3d.py')
    cfg.distiller.teacher.update(checkpoint=None, random_weights=True)
    cfg.model.pts_bbox_head.velocity_scale = 1.0
    with pytest.raises(
        DistillError, match=r"student's velocities is 1.0 m/s, of the teacher's 2.5.*velocity_scale"
    ):
        build_distiller(cfg)


def test_taps_and_boxes() -> None:
    model = built(lidarformer_config())
    teacher, batch = FrozenTeacher.from_model(model), emptied(lidar_batch([0, 1], 9), [1])
    taps = [tap for name in ('voxels', 'backbone', 'bev', 'queries', 'boxes') for tap in teacher.taps(name)]
    seen = teacher.observe(batch, taps, torch.device('cpu'))
    assert seen.predictions['bev_embed'].shape == (2, 256, 32)
    (tap,) = teacher.taps('bev')
    assert tap.convert(seen.predictions['bev_embed']).shape == (2, 32, 16, 16)
    assert adapter_for(model).bev_grid(model).size == (16, 16)
    first, second = teacher.detect(seen)
    assert len(second.scores) == 0
    with torch.no_grad():
        tested = model(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    assert torch.equal(first.boxes.tensor, tested[0]['pts_bbox']['boxes_3d'].tensor)


def test_bevdepth_takes_the_centre_heads_of_a_centerpoint() -> None:
    """Weights are matched within the head, which hosts call by other names; what lies below the heads is the student's own."""
    teacher = FrozenTeacher.from_model(build_model(load_config('centerpoint_near_coarse_teacher.py').model))
    student = build_model(load_config('bevdepth_near_student.py').model)
    report = InheritHead()(student, adapter_for(student), teacher)
    below = {name.split('.')[1] for name in report.left}
    assert below == {'trunk', 'neck'}
    assert {name.split('.')[1] for name in report.copied} == {'shared_conv', 'task_heads'}
    mine, theirs = student.head.state_dict(), teacher.model.pts_bbox_head.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())


def test_heads_of_other_kinds_are_refused() -> None:
    student = built(pillar_config())
    with pytest.raises(DistillError, match=r'distiller.initialize.*VoxelNet and a CenterPoint'):
        InheritHead()(student, adapter_for(student), FrozenTeacher.from_model(built(centerpoint_config())))
